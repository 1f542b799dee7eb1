// Package image finds the container images that mailbench runs, and builds them
// where there are none: the one of the cluster's nodes, and the one of the real
// programs that tests set beside it.
package image

import (
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/containerd/errdefs"
	"github.com/mailbench/mailbench/reference/cluster/engine"
	"github.com/moby/moby/client"
)

// Kind is which of the images is meant.
type Kind uint8

// The kinds.
const (
	Nodes    Kind = iota // the nodes of an NDB cluster
	Programs             // real Exim, Postgrey, slapd and sysbench, for tests
)

// recipe is what is particular to one kind of image.
type recipe struct {
	folder     fs.FS  // what it is made from
	repository string // names the images that are built
	official   string // the image that somebody publishes, "" if nobody does
	whose      string // for messages: the image of ...
	command    string // finds or builds it by hand
	effort     string // of a build
	diskNeeded uint64 // bytes that a build takes for a while
}

//go:embed Dockerfile
var nodesFolder embed.FS

//go:embed programs
var programsFolder embed.FS

func (k Kind) recipe() recipe {
	if k == Programs {
		// The path is the one that is embedded: it cannot fail.
		folder, _ := fs.Sub(programsFolder, "programs")
		return recipe{
			folder: folder, repository: "mailbench/programs",
			whose: "the programs", command: "mailbench cluster image --programs",
			effort: "some 30 seconds", diskNeeded: 2 << 30,
		}
	}
	return recipe{
		folder: nodesFolder, repository: "mailbench/ndb", official: Official,
		whose: "the nodes", command: "mailbench cluster image",
		effort: "some 6 minutes on 2 cores",
		// Some 3 GiB of layers and, for a while, as much again of source and object
		// files.
		diskNeeded: 7 << 30,
	}
}

// Official is the image of the nodes that MySQL publishes. What is assumed of it, from its
// published build files and not tried, since it could not be pulled where this
// was written:
//   - ndb_mgmd, ndbmtd, mysqld and sh are on the PATH;
//   - so are chown, find (with -mindepth and -delete), mkdir, touch, and a sleep
//     that takes "infinity";
//   - the user and group "mysql" exist;
//   - /var/lib/mysql, /var/lib/mysql-cluster and /run/mysqld can be made and
//     written by root.
//
// Its entrypoint is replaced, its EXPOSEd ports are not published, and its
// health check is ignored (it tests a mysqld in every role). It has neither
// iptables nor tc, so that faults that need them are refused.
const Official = "mysql/mysql-cluster:9.7"

// pullTimeout bounds an attempt to pull. A registry that is reachable shows
// progress well before; without one the time is lost before every build.
const (
	pullTimeout  = 5 * time.Minute // whole pull, once it has begun
	firstMessage = 8 * time.Second // until the registry sends anything
)

// Found is the image to use.
type Found struct {
	Name string // as a person would name it
	ID   string // the engine's id, which is a digest of its content
	How  string // "named", "local", "official" or "built"
}

// Options tell Find what to look for and whom to tell.
type Options struct {
	Kind     Kind             // the nodes' image is the zero value
	Name     string           // an image named by the user; nothing else is tried
	OnlyHere bool             // neither pull nor build: take what the engine has
	Announce func(string)     // takes one line for each step
	Progress func(p Progress) // takes the build's progress; may be nil
	// LogPath is the file that takes a build's whole output. If it is empty, the
	// build chooses a file of its own in the user's cache folder and announces it.
	LogPath string
}

// UnavailableError says that there is no image of a kind, and why. Its cause is
// a *BuildError where a build failed.
type UnavailableError struct {
	Kind Kind
	Err  error
}

func (e *UnavailableError) Error() string {
	r := e.Kind.recipe()
	message := fmt.Sprintf("there is no image for %s: %v\n  once that is mended, try again with: %s", r.whose, e.Err, r.command)
	if e.Kind == Nodes {
		message += "\n  or name an image that the engine has, with --image or MAILBENCH_IMAGE"
	}
	return message
}

// Unwrap returns the cause.
func (e *UnavailableError) Unwrap() error { return e.Err }

// Hash identifies the content of the image's folder: by it an image that is
// there is known to fit still.
func (k Kind) Hash() string { return hash(k.recipe().folder) }

func hash(folder fs.FS) string {
	sum := sha256.New()
	// An embedded folder can always be read.
	_ = fs.WalkDir(folder, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := fs.ReadFile(folder, path)
		fmt.Fprintf(sum, "%s %d\n", path, len(data))
		sum.Write(data)
		return err
	})
	return hex.EncodeToString(sum.Sum(nil))[:16]
}

// Find returns the image of a kind, in this order: the one that the user named;
// a local one made from this very image folder; the official one, if there is
// one and a registry answers; else it is built. It fails with
// *UnavailableError, or with ctx's error where ctx has ended.
func Find(ctx context.Context, c *client.Client, o Options) (Found, error) {
	f, err := find(ctx, c, o)
	if err == nil {
		return f, nil
	}
	ended := ctx.Err()
	if ended == nil {
		return Found{}, &UnavailableError{o.Kind, err}
	}
	// What fails once ctx has ended says nothing of the image; only the place is
	// worth telling.
	var building *BuildError
	if errors.As(err, &building) {
		return Found{}, fmt.Errorf("building the image was stopped at %s: %w", building.Step, ended)
	}
	return Found{}, fmt.Errorf("finding the image was stopped: %w", ended)
}

func find(ctx context.Context, c *client.Client, o Options) (Found, error) {
	if o.Name != "" {
		return named(ctx, c, o)
	}
	hash := o.Kind.Hash()
	if f, ok, err := local(ctx, c, hash); err != nil || ok {
		if ok {
			o.Announce(fmt.Sprintf("image: %s is there (image folder %s)", f.Name, hash))
		}
		return f, err
	}
	o.Announce(fmt.Sprintf("image: no local image of image folder %s", hash))
	if o.OnlyHere {
		return onlyHere(ctx, c, o.Kind.recipe().official)
	}
	if official := o.Kind.recipe().official; official != "" {
		if id, err := pulled(ctx, c, official, o.Announce); err == nil {
			return Found{Name: official, ID: id, How: "official"}, nil
		} else if ctx.Err() != nil {
			return Found{}, err
		}
	}
	return build(ctx, c, o)
}

// onlyHere is the official image if the engine has it.
func onlyHere(ctx context.Context, c *client.Client, official string) (Found, error) {
	if official != "" {
		switch id, err := inspect(ctx, c, official); {
		case err == nil:
			return Found{Name: official, ID: id, How: "official"}, nil
		case !errdefs.IsNotFound(err):
			return Found{}, err
		}
	}
	return Found{}, errors.New("the engine has none, and none was to be made")
}

func named(ctx context.Context, c *client.Client, o Options) (Found, error) {
	id, err := inspect(ctx, c, o.Name)
	if errdefs.IsNotFound(err) && !o.OnlyHere {
		o.Announce(fmt.Sprintf("image: %s is not here", o.Name))
		if id, err = pulled(ctx, c, o.Name, o.Announce); err != nil {
			err = fmt.Errorf("%w\n  pull it by hand (docker pull %s): "+
				"credentials of private registries are not passed on", err, o.Name)
		}
	}
	if err != nil {
		return Found{}, fmt.Errorf("image %s, named by --image or MAILBENCH_IMAGE, cannot be had: %w", o.Name, err)
	}
	o.Announce(fmt.Sprintf("image: %s, as named", o.Name))
	return Found{Name: o.Name, ID: id, How: "named"}, nil
}

// local finds an image whose label says that it was made from this folder.
func local(ctx context.Context, c *client.Client, hash string) (Found, bool, error) {
	list, err := c.ImageList(ctx, client.ImageListOptions{
		Filters: client.Filters{}.Add("label", engine.LabelImage+"="+hash),
	})
	if err != nil {
		return Found{}, false, fmt.Errorf("list the engine's images: %w", err)
	}
	for _, item := range list.Items {
		if len(item.RepoTags) > 0 {
			return Found{Name: item.RepoTags[0], ID: item.ID, How: "local"}, true, nil
		}
	}
	return Found{}, false, nil
}

func inspect(ctx context.Context, c *client.Client, name string) (id string, err error) {
	result, err := c.ImageInspect(ctx, name)
	if err != nil {
		return "", err
	}
	return result.ID, nil
}

// pulled returns the id of an image, pulling it if a registry answers quickly.
func pulled(ctx context.Context, c *client.Client, name string, announce func(string)) (id string, err error) {
	if id, err := inspect(ctx, c, name); err == nil {
		announce(fmt.Sprintf("image: %s is there", name))
		return id, nil
	}
	announce(fmt.Sprintf("image: trying to pull %s", name))
	if err := pull(ctx, c, name); err != nil {
		if ctx.Err() == nil {
			announce(fmt.Sprintf("image: %s cannot be pulled here", name))
		}
		return "", fmt.Errorf("pull %s: %w", name, err)
	}
	return inspect(ctx, c, name)
}

// pull ends early where the registry sends nothing, and says so.
func pull(ctx context.Context, c *client.Client, name string) (err error) {
	ctx, stop := context.WithTimeoutCause(ctx, pullTimeout,
		fmt.Errorf("the registry had not sent all of it after %.0f minutes", pullTimeout.Minutes()))
	defer stop()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	silent := time.AfterFunc(firstMessage, func() {
		cancel(fmt.Errorf("the registry was silent for %.0f s", firstMessage.Seconds()))
	})
	defer silent.Stop()
	defer func() {
		if err != nil && ctx.Err() != nil {
			err = context.Cause(ctx)
		}
	}()
	response, err := c.ImagePull(ctx, name, client.ImagePullOptions{})
	if err != nil {
		return err
	}
	defer response.Close()
	for message, err := range response.JSONMessages(ctx) {
		silent.Stop()
		if err != nil {
			return err
		}
		if message.Error != nil {
			return message.Error
		}
	}
	// A stream that was cut off by ctx may look complete.
	return ctx.Err()
}
