package image

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/moby/moby/client"
)

// fakeEngine answers the requests of Find without a network. A row that is not
// there is answered as an engine does that lacks what is asked for.
type fakeEngine struct {
	list  answer            // of the images with the folder's label
	here  map[string]string // ids of images by name
	pull  answer
	root  string // folder in which the engine keeps images
	build answer
}

// answer replies to one request, which lasts as long as the request's context
// if the answer is silent.
type answer func(r *http.Request) (*http.Response, error)

func reply(status int, body string) answer {
	return func(r *http.Request) (*http.Response, error) {
		return &http.Response{
			StatusCode: status, Status: http.StatusText(status), Request: r,
			Header: http.Header{"Content-Type": {"application/json"}},
			Body:   io.NopCloser(strings.NewReader(body)),
		}, nil
	}
}

func silent(r *http.Request) (*http.Response, error) {
	<-r.Context().Done()
	return nil, context.Cause(r.Context())
}

// cutOff sends the start of a stream, which ends with the request's context.
func cutOff(start string) answer {
	return func(r *http.Request) (*http.Response, error) {
		response, err := reply(http.StatusOK, "")(r)
		response.Body = io.NopCloser(io.MultiReader(strings.NewReader(start), untilDone{r.Context()}))
		return response, err
	}
}

type untilDone struct{ ctx context.Context }

func (u untilDone) Read([]byte) (int, error) {
	<-u.ctx.Done()
	return 0, errors.New("the connection is closed")
}

func (f fakeEngine) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body != nil {
		// As a transport does.
		defer r.Body.Close()
	}
	_, path, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/v"), "/")
	name := strings.TrimSuffix(strings.TrimPrefix(path, "images/"), "/json")
	do := reply(http.StatusNotFound, `{"message":"not here"}`)
	switch {
	case path == "images/json":
		do = f.list
		if do == nil {
			do = reply(http.StatusOK, "[]")
		}
	case path == "images/create" && f.pull != nil:
		do = f.pull
	case path == "info":
		do = reply(http.StatusOK, fmt.Sprintf(`{"DockerRootDir":%q}`, f.root))
	case path == "build" && f.build != nil:
		do = f.build
	case f.here[name] != "":
		do = reply(http.StatusOK, fmt.Sprintf(`{"Id":%q}`, f.here[name]))
	}
	return do(r)
}

func (f fakeEngine) client(t *testing.T) *client.Client {
	t.Helper()
	c, err := client.New(client.WithHost("tcp://engine:2375"), client.WithAPIVersion("1.44"),
		client.WithHTTPClient(&http.Client{Transport: f}))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// refused is what an engine says whose registry cannot be reached.
var refused = reply(http.StatusInternalServerError, `{"message":"dial tcp: no such host"}`)

// base is an engine that can build, on a disk that cannot be seen.
var base = fakeEngine{here: map[string]string{baseOfficial: "sha256:base"}, pull: refused, root: "/nowhere"}

func TestEveryFailureSaysThatTheImageIsUnavailable(t *testing.T) {
	log := filepath.Join(t.TempDir(), "build.log")
	building := func(a answer) fakeEngine { e := base; e.build = a; return e }
	full := base
	full.root = "/proc" // a file system without a free block
	for _, row := range []struct {
		sentence string
		engine   fakeEngine
		options  Options
		built    bool // a build was begun
		want     []string
	}{
		{"a named image that no registry gives is to be pulled by hand", fakeEngine{pull: refused}, Options{Name: "mine:1"}, false,
			[]string{"image mine:1, named by --image", "no such host", "docker pull mine:1", "credentials of private registries are not passed on"}},
		{"a registry may refuse in the midst of the pull",
			fakeEngine{pull: reply(http.StatusOK, `{"status":"Pulling"}{"errorDetail":{"message":"denied"}}`)}, Options{Name: "mine:1"}, false,
			[]string{"pull mine:1: denied", "docker pull mine:1"}},
		{"a named image whose name is none cannot be pulled either", fakeEngine{}, Options{Name: "Not A Name"}, false,
			[]string{"image Not A Name, named by"}},
		{"an engine may fail to list its images", fakeEngine{list: refused}, Options{}, false,
			[]string{"list the engine's images", "no such host"}},
		{"a full disk is found before the build", full, Options{LogPath: log}, false,
			[]string{"needs 7 GiB in /proc", "docker system prune"}},
		{"a log that cannot be written is found before the build", base, Options{LogPath: "/dev/null/build.log"}, false,
			[]string{"open the build's log", "/dev/null"}},
		{"an engine may refuse to build", building(refused), Options{LogPath: log}, true,
			[]string{"failed at its start", log}},
		{"a step of the build may fail",
			building(reply(http.StatusOK, `{"stream":"Step 2/9 : RUN x\n"}{"errorDetail":{"message":"returned 1"}}`)), Options{LogPath: log}, true,
			[]string{"failed at step 2 of 9 (RUN x)", "returned 1", log}},
		{"a build may end without an image", building(reply(http.StatusOK, `{"stream":"Step 9/9 : RUN x\n"}`)), Options{LogPath: log}, true,
			[]string{"failed at the finished image", log}},
	} {
		t.Run(row.sentence, func(t *testing.T) {
			row.options.Announce = func(string) {}
			_, err := Find(t.Context(), row.engine.client(t), row.options)
			var unavailable *UnavailableError
			if !errors.As(err, &unavailable) {
				t.Fatalf("error = %v (%T), want an *UnavailableError", err, err)
			}
			var build *BuildError
			if errors.As(err, &build) != row.built {
				t.Errorf("error = %v; is a *BuildError: %v, want %v", err, !row.built, row.built)
			}
			for _, want := range append(row.want, "--image or MAILBENCH_IMAGE") {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error = %v, want it to say %q", err, want)
				}
			}
		})
	}
}

func TestProgramsAreOnlyBuilt(t *testing.T) {
	for _, row := range []struct {
		sentence string
		list     answer
		build    answer
		want     string   // name of what is found
		fails    []string // what the error says instead
	}{
		{"an image of the programs' folder is taken",
			reply(http.StatusOK, `[{"Id":"sha256:p","RepoTags":["mailbench/programs:x"]}]`), nil, "mailbench/programs:x", nil},
		{"without one it is built, and no image of the nodes will do", nil,
			reply(http.StatusOK, `{"stream":"Step 1/6 : RUN x\n"}`), "mailbench/programs:" + Programs.Hash(), nil},
		{"a failure names the command that tries again, and no flag that names an image", nil,
			reply(http.StatusOK, `{"stream":"Step 2/6 : RUN x\n"}{"errorDetail":{"message":"returned 1"}}`), "",
			[]string{"no image for the programs", "step 2 of 6", "try again with: mailbench cluster image --programs"}},
	} {
		t.Run(row.sentence, func(t *testing.T) {
			engine := base
			engine.list, engine.build = row.list, func(r *http.Request) (*http.Response, error) {
				if got := r.URL.Query().Get("labels"); !strings.Contains(got, Programs.Hash()) {
					t.Errorf("the build's labels are %s, want the hash %s", got, Programs.Hash())
				}
				return row.build(r)
			}
			engine.here = map[string]string{
				baseOfficial: "sha256:base", Official: "sha256:nodes", "mailbench/programs:" + Programs.Hash(): "sha256:built",
			}
			found, err := Find(t.Context(), engine.client(t), Options{
				Kind: Programs, LogPath: filepath.Join(t.TempDir(), "build.log"), Announce: func(string) {},
			})
			if found.Name != row.want || (err == nil) != (row.fails == nil) {
				t.Fatalf("found %+v, %v; want %q", found, err, row.want)
			}
			for _, want := range row.fails {
				if !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "--image") {
					t.Errorf("error = %v, want it to say %q", err, want)
				}
			}
		})
	}
}

func TestSilentRegistryIsNamed(t *testing.T) {
	for _, row := range []struct {
		sentence string
		pull     answer
		want     string
	}{
		{"a registry that sends nothing is given up soon", silent, "pull mine:1: the registry was silent for 8 s\n  pull it by hand (docker pull mine:1)"},
		{"a pull that has begun may take minutes", cutOff(`{"status":"Pulling"}`), "pull mine:1: the registry had not sent all of it after 5 minutes\n"},
	} {
		t.Run(row.sentence, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				_, err := Find(t.Context(), fakeEngine{pull: row.pull}.client(t), Options{Name: "mine:1", Announce: func(string) {}})
				var unavailable *UnavailableError
				if !errors.As(err, &unavailable) || !strings.Contains(err.Error(), row.want) {
					t.Errorf("error = %v, want an *UnavailableError that says %q", err, row.want)
				}
			})
		})
	}
}

func TestEndOfTheContextIsNoUnavailableImage(t *testing.T) {
	building := base
	building.build = cutOff(`{"stream":"Step 2/9 : RUN x\n"}`)
	for _, row := range []struct {
		sentence string
		engine   fakeEngine
		name     string
		want     string
	}{
		{"while the engine lists its images", fakeEngine{list: silent}, "", "finding the image was stopped: context canceled"},
		{"while a named image is pulled", fakeEngine{pull: silent}, "mine:1", "finding the image was stopped: context canceled"},
		{"while the official image is pulled", fakeEngine{pull: silent}, "", "finding the image was stopped: context canceled"},
		{"while the image is built", building, "", "building the image was stopped at step 2 of 9 (RUN x): context canceled"},
	} {
		t.Run(row.sentence, func(t *testing.T) {
			log := filepath.Join(t.TempDir(), "build.log")
			synctest.Test(t, func(t *testing.T) {
				// A cause of its own must not hide what has happened.
				ctx, cancel := context.WithCancelCause(t.Context())
				go func() { synctest.Wait(); cancel(errors.New("interrupt signal received")) }()
				_, err := Find(ctx, row.engine.client(t), Options{Name: row.name, LogPath: log, Announce: func(line string) {
					if strings.Contains(line, "cannot be pulled") && ctx.Err() != nil {
						t.Errorf("%q was announced, but it was the user who ended the pull", line)
					}
				}})
				var unavailable *UnavailableError
				if !errors.Is(err, context.Canceled) || errors.As(err, &unavailable) || err.Error() != row.want {
					t.Errorf("error = %v, want only %q", err, row.want)
				}
			})
		})
	}
}

func TestBuildChoosesAndAnnouncesItsLog(t *testing.T) {
	for _, row := range []struct {
		sentence string
		cache    func(folder string) string
		want     func(cache, temp string) string // pattern of the log's path
	}{
		{"the log is in the user's cache folder",
			func(folder string) string { return folder },
			func(cache, _ string) string {
				return filepath.Join(cache, "mailbench", fmt.Sprintf("image-build-%s-%d.log", Nodes.Hash(), os.Getpid()))
			}},
		{"a user without a cache folder gets a temporary file",
			func(string) string { return "relative" }, inTemp},
		{"so does a user whose cache folder cannot be written",
			func(string) string { return "/dev/null" }, inTemp},
	} {
		t.Run(row.sentence, func(t *testing.T) {
			cache, temp := row.cache(t.TempDir()), t.TempDir()
			t.Setenv("XDG_CACHE_HOME", cache)
			t.Setenv("TMPDIR", temp)
			engine := base
			engine.build = reply(http.StatusOK, `{"stream":"Step 1/9 : RUN x\n"}`)
			var announced []string
			_, err := Find(t.Context(), engine.client(t), Options{Announce: func(line string) { announced = append(announced, line) }})
			var build *BuildError
			if !errors.As(err, &build) {
				t.Fatal(err)
			}
			if ok, err := filepath.Match(row.want(cache, temp), build.Log); !ok || err != nil {
				t.Errorf("the log is %s, want %s", build.Log, row.want(cache, temp))
			}
			if all := strings.Join(announced, "\n"); !strings.Contains(all, "the build's whole output goes to "+build.Log+"\n") {
				t.Errorf("announced:\n%s\nwant the path %s before the build", all, build.Log)
			}
			if data, err := os.ReadFile(build.Log); err != nil || !bytes.Contains(data, []byte("Step 1/9")) {
				t.Errorf("the log holds %q (%v), want the build's output", data, err)
			}
		})
	}
}

func inTemp(_, temp string) string {
	return filepath.Join(temp, fmt.Sprintf("mailbench-image-build-%s-%d-*.log", Nodes.Hash(), os.Getpid()))
}

func TestHostCommandIsAskedToEnd(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	command := hostCommand(ctx, "sh", "-c", `trap 'echo cleaned; exit 3' TERM; echo ready; while :; do sleep 0.01; done`)
	output, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(output, make([]byte, len("ready\n"))); err != nil {
		t.Fatal(err)
	}
	cancel()
	rest, err := io.ReadAll(output)
	if err != nil || string(rest) != "cleaned\n" {
		t.Errorf("after its context's end the command printed %q (%v), want it to have cleaned up", rest, err)
	}
	if err := command.Wait(); err == nil {
		t.Error("a command that was ended must fail")
	}
}
