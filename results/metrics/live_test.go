package metrics

import (
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/workload"
)

func TestLive(t *testing.T) {
	live, err := Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	url := "http://" + live.Addr().String()
	get := func(method, path, accept string) (int, string, string) {
		request, err := http.NewRequestWithContext(t.Context(), method, url+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Accept", accept)
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		b, err := io.ReadAll(response.Body)
		if err != nil {
			t.Fatal(err)
		}
		return response.StatusCode, response.Header.Get("Content-Type"), string(b)
	}
	if code, _, body := get("GET", "/metrics", ""); code != http.StatusServiceUnavailable || !strings.Contains(body, "has not begun") {
		t.Errorf("before the run: %d, %s", code, body)
	}
	x := live.Begin(manifest(t))
	var recorders sync.WaitGroup
	for range 4 {
		recorders.Go(func() {
			for range 250 {
				x.Record(&workload.Sample{Operation: reference.Route, Outcome: workload.OK, Attempts: []workload.Attempt{{Node: 4, Ended: ms}}})
			}
		})
	}
	recorders.Wait()
	const want = `mailbench_ops_total{outcome="ok",path="routing"} 1000`
	for _, row := range []struct{ sentence, accept, kind string }{
		{"a server that asks for OpenMetrics", "application/openmetrics-text; version=1.0.0", "application/openmetrics-text"},
		{"a person", "", "text/plain"},
	} {
		if code, kind, body := get("GET", "/metrics", row.accept); code != http.StatusOK || !strings.HasPrefix(kind, row.kind) || !strings.Contains(body, want) {
			t.Errorf("%s: %d, %s, %s", row.sentence, code, kind, body)
		}
	}
	if code, _, _ := get("GET", "/", ""); code != http.StatusNotFound {
		t.Errorf("another page: %d", code)
	}
	if code, _, _ := get("POST", "/metrics", ""); code != http.StatusMethodNotAllowed {
		t.Errorf("a write: %d", code)
	}
	live.Begin(manifest(t))
	if _, _, body := get("GET", "/metrics", ""); strings.Contains(body, want) {
		t.Error("the next run of a series shows the ops of the one before")
	}
	if _, err := Listen(t.Context(), live.Addr().String()); err == nil || !strings.Contains(err.Error(), "name another address") {
		t.Errorf("a second listener: %v", err)
	}
	if err := live.Close(); err != nil {
		t.Error(err)
	}
	if _, err := http.Get(url + "/metrics"); err == nil {
		t.Error("it listens after Close")
	}
}

// BenchmarkRecord is what an op costs the generator while somebody may read.
func BenchmarkRecord(b *testing.B) {
	x := New(manifest(b))
	s := workload.Sample{Operation: reference.Route, Outcome: workload.OK, Attempts: []workload.Attempt{{Node: 4, Ended: ms}}}
	for b.Loop() {
		x.Record(&s)
	}
}
