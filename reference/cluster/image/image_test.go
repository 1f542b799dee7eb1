package image

import (
	"archive/tar"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

func TestHashFollowsTheFolder(t *testing.T) {
	one := hash(fstest.MapFS{"Dockerfile": {Data: []byte("FROM a")}})
	for _, other := range []fstest.MapFS{
		{"Dockerfile": {Data: []byte("FROM b")}},
		{"Dockerfile.old": {Data: []byte("FROM a")}},
		{"Dockerfile": {Data: []byte("FROM a")}, "extra": {}},
	} {
		if hash(other) == one {
			t.Errorf("%v has the hash of another folder", other)
		}
	}
	if again := hash(fstest.MapFS{"Dockerfile": {Data: []byte("FROM a")}}); again != one || len(one) != 16 {
		t.Errorf("hash = %q and then %q, want 16 hexadecimal digits, the same each time", one, again)
	}
}

func TestKindsHaveFoldersAndNamesOfTheirOwn(t *testing.T) {
	nodes, programs := Nodes.recipe(), Programs.recipe()
	if Nodes.Hash() == Programs.Hash() || nodes.repository == programs.repository {
		t.Errorf("nodes are %s:%s, programs %s:%s: one would be taken for the other",
			nodes.repository, Nodes.Hash(), programs.repository, Programs.Hash())
	}
	if programs.official != "" {
		t.Errorf("the programs would be pulled from %s, but nobody publishes such an image", programs.official)
	}
}

func TestContextArchiveHoldsTheFolder(t *testing.T) {
	for kind, want := range map[Kind]string{Nodes: "ndbmtd", Programs: "exim4-daemon-heavy"} {
		r, err := contextArchive(kind.recipe().folder)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		archive := tar.NewReader(r)
		for {
			header, err := archive.Next()
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			names = append(names, header.Name)
			if data, err := io.ReadAll(archive); err != nil || !strings.Contains(string(data), want) {
				t.Errorf("kind %d: %s lacks %q (%v)", kind, header.Name, want, err)
			}
		}
		// The nodes' folder is the one above: nothing of the programs may slip in,
		// for it would make every built image look stale.
		if !slices.Equal(names, []string{"Dockerfile"}) {
			t.Errorf("kind %d: the build context holds %v, want a Dockerfile and nothing else", kind, names)
		}
	}
}

func TestStepTracker(t *testing.T) {
	for _, row := range []struct {
		sentence string
		output   []string
		want     string
		name     string
	}{
		{"a build that has printed nothing is at its start", nil, "image: step 0/0 ", "its start"},
		{"a step line names the step", []string{"Step 2/9 : FROM debian:sid\n"}, "image: step 2/9 FROM debian:sid", "step 2 of 9 (FROM debian:sid)"},
		{"white space in a command is folded",
			[]string{"Step 3/9 : RUN   a \t b\n"}, "image: step 3/9 RUN a b", "step 3 of 9 (RUN a b)"},
		{"Ninja's counter gives the percentage",
			[]string{"Step 5/9 : RUN ninja\n", "[280/561] Building x.o\n"}, "image: step 5/9 RUN ninja compiling 49 %", "step 5 of 9 (RUN ninja)"},
		{"the next step forgets the percentage",
			[]string{"Step 5/9 : RUN ninja\n[561/561] Linking\n", "Step 6/9 : COPY a b\n"}, "image: step 6/9 COPY a b", "step 6 of 9 (COPY a b)"},
		{"a counter over nothing is no percentage",
			[]string{"Step 5/9 : RUN x\n[1/0] y\n"}, "image: step 5/9 RUN x", "step 5 of 9 (RUN x)"},
		{"a step line in the middle of a line is the command's own output",
			[]string{"Step 1/9 : RUN x\n", "echo Step 7/9 : no\n"}, "image: step 1/9 RUN x", "step 1 of 9 (RUN x)"},
	} {
		t.Run(row.sentence, func(t *testing.T) {
			var tracker stepTracker
			for _, stream := range row.output {
				tracker.read(stream)
			}
			if tracker.Steps == 0 {
				tracker.Percent = -1
			}
			if got := tracker.Progress.String(); got != row.want {
				t.Errorf("progress = %q, want %q", got, row.want)
			}
			if got := tracker.name(); got != row.name {
				t.Errorf("name = %q, want %q", got, row.name)
			}
		})
	}
}

func TestProgressFitsALine(t *testing.T) {
	p := Progress{Step: 5, Steps: 12, Command: "RUN " + strings.Repeat("long ", 40), Percent: 7}
	if line := p.String(); len(line) > 79 || !strings.HasSuffix(line, " compiling 7 %") {
		t.Fatalf("%d columns: %q", len(line), line)
	}
}

func TestRebuiltPercentIsReportedOnce(t *testing.T) {
	var tracker stepTracker
	tracker.read("Step 5/9 : RUN ninja\n")
	if !tracker.read("[57/561] a\n") || tracker.read("[58/561] b\n") {
		t.Fatal("a percentage must be reported when it changes, and only then")
	}
}
