package report

import (
	"context"
	_ "embed"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	devtools "github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

var (
	screenshots  = flag.String("screenshots", "", "directory that tests with a browser write pictures to, for a person to look at")
	screenshotOf = flag.String("screenshots.of", "", "report.html to open instead of a made one")
)

// checkPage returns what is wrong with the page that is shown.
//
//go:embed testdata/check_page.js
var checkPage string

// browser finds a Chromium. Nothing is skipped in CI.
func browser(t *testing.T) string {
	t.Helper()
	if testing.Short() {
		t.Skip("opens a browser")
	}
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	const missing = "no Chromium is installed, so that nobody looks at report.html; Debian's package is chromium"
	if os.Getenv("CI") == "true" {
		t.Fatal(missing)
	}
	t.Skip(missing)
	return ""
}

// TestReportInABrowser opens the report as its readers do: it renders, fetches
// nothing, says nothing on the console, and can be read in light and in dark, on
// a phone and on paper.
func TestReportInABrowser(t *testing.T) {
	path := browser(t)
	file := *screenshotOf
	if file == "" {
		dir := t.TempDir()
		eventful(t, dir)
		if _, err := Write(dir); err != nil {
			t.Fatal(err)
		}
		file = filepath.Join(dir, HTMLFile)
	}
	lookAt(t, path, file, "report", "#timeline", "time ", "time 0:00 ops/s ")
}

// TestCapacityInABrowser opens the page of a capacity search likewise.
func TestCapacityInABrowser(t *testing.T) {
	path := browser(t)
	dir := t.TempDir()
	if err := WriteCapacity(dir, searched(t), capacityExtras(t)); err != nil {
		t.Fatal(err)
	}
	lookAt(t, path, filepath.Join(dir, CapacityHTMLFile), "capacity", "#rates", "rate a day ", "rate a day 7,680,000 step 1 outcome met ")
}

// lookAt opens a page in a browser and checks all that it should be. The values
// under the chart in the part of the page that chart names begin with values, and
// the first of them with first.
func lookAt(t *testing.T, path, file, name, chart, values, first string) {
	t.Helper()
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path))
	if os.Getuid() == 0 {
		options = append(options, chromedp.NoSandbox) // Chromium refuses to be root in a sandbox; the page is our own
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	ctx, cancel = chromedp.NewExecAllocator(ctx, options...)
	defer cancel()
	ctx, cancel = chromedp.NewContext(ctx)
	defer cancel()

	var (
		mu      sync.Mutex
		fetched []string
		said    []string
	)
	listen := func(event any) {
		mu.Lock()
		defer mu.Unlock()
		switch e := event.(type) {
		case *network.EventRequestWillBeSent:
			if !strings.HasPrefix(e.Request.URL, "data:") {
				fetched = append(fetched, e.Request.URL)
			}
		case *runtime.EventConsoleAPICalled:
			said = append(said, fmt.Sprintf("console.%s", e.Type))
		case *runtime.EventExceptionThrown:
			said = append(said, e.ExceptionDetails.Text)
		case *log.EventEntryAdded:
			said = append(said, e.Entry.Text)
		case *devtools.EventJavascriptDialogOpening:
			said = append(said, "a dialog: "+e.Message)
		}
	}
	enable := func() error {
		if err := chromedp.Listen(ctx, listen); err != nil {
			return err
		}
		if _, err := chromedp.Call(ctx, network.Enable, network.EnableParams{}); err != nil {
			return err
		}
		if _, err := chromedp.Call(ctx, log.Enable, cdp.Empty{}); err != nil {
			return err
		}
		_, err := chromedp.Call(ctx, runtime.Enable, cdp.Empty{})
		return err
	}
	url := "file://" + file
	if err := errors.Join(enable(), chromedp.Do(ctx, chromedp.Navigate(url))); err != nil {
		t.Fatal(err)
	}
	see := func(width, height int64, media, scheme string) error {
		var options []chromedp.EmulateViewportOption
		if width < 500 {
			options = append(options, chromedp.EmulateMobile)
		}
		_, err := chromedp.Call(ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Media: media, Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}},
		})
		return errors.Join(err, chromedp.Do(ctx, chromedp.EmulateViewport(width, height, options...)))
	}
	for _, view := range []struct {
		name          string
		width, height int64
		media, scheme string
	}{
		{"desktop-light", 1280, 900, "screen", "light"},
		{"desktop-dark", 1280, 900, "screen", "dark"},
		{"phone-light", 360, 740, "screen", "light"},
		{"phone-dark", 360, 740, "screen", "dark"},
		{"print", 718, 1000, "print", "dark"}, // A4 less its margins; a reader of the dark page prints, too
	} {
		if err := see(view.width, view.height, view.media, view.scheme); err != nil {
			t.Fatalf("%s: %v", view.name, err)
		}
		wrong, err := chromedp.Run(ctx, chromedp.Evaluate[[]string](checkPage))
		if err != nil {
			t.Fatalf("%s: %v", view.name, err)
		}
		for _, w := range wrong {
			t.Errorf("%s: %s", view.name, w)
		}
		if *screenshots == "" {
			continue
		}
		picture, err := chromedp.Run(ctx, chromedp.FullScreenshot(100))
		if err == nil {
			err = os.WriteFile(filepath.Join(*screenshots, name+"-"+view.name+".png"), picture, 0o644)
		}
		if err != nil {
			t.Fatalf("%s: %v", view.name, err)
		}
	}

	// Values under a pointer, and by keys.
	readout := func(what string, actions ...chromedp.Action[chromedp.Void]) string {
		if err := chromedp.Do(ctx, actions...); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		text, err := chromedp.Run(ctx, chromedp.Evaluate[string](`document.querySelector("`+chart+` .readout").textContent`))
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		return strings.Join(strings.Fields(text), " ")
	}
	if err := see(1280, 900, "screen", "light"); err != nil {
		t.Fatal(err)
	}
	hint := readout("before")
	box, err := chromedp.Run(ctx, chromedp.Evaluate[[]float64](`(() => {
		const svg = document.querySelector("`+chart+` svg.wide");
		svg.scrollIntoView();
		const {x, y, width, height} = svg.getBoundingClientRect();
		return [x, y, width, height];
	})()`))
	if err != nil {
		t.Fatal(err)
	}
	pointed := readout("pointing", chromedp.MouseEvent(input.DispatchMouseEventTypeMouseMoved, box[0]+box[2]/2, box[1]+60))
	if _, err := chromedp.Run(ctx, chromedp.Evaluate[bool](`document.querySelector("`+chart+` .plot").focus() === undefined`)); err != nil {
		t.Fatal(err)
	}
	begins := readout("the first column", chromedp.KeyEvent(kb.Home))
	second := readout("the next column", chromedp.KeyEvent(kb.ArrowRight))
	if !strings.HasPrefix(hint, "Point at") || !strings.HasPrefix(pointed, values) || !strings.HasPrefix(begins, first) ||
		!strings.HasPrefix(second, values) || begins == second || pointed == begins {
		t.Errorf("the chart reads %q, under the pointer %q, at its beginning %q, then %q", hint, pointed, begins, second)
	}

	mu.Lock()
	defer mu.Unlock()
	if len(fetched) != 1 || fetched[0] != url {
		t.Errorf("the page fetched %q, want itself alone", fetched)
	}
	for _, s := range said {
		t.Errorf("the page said: %s", s)
	}
}
