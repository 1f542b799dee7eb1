package metrics

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/mailbench/mailbench/results"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Live serves the metrics of a run while it goes on, and of the last one after it.
type Live struct {
	server  *http.Server
	address net.Addr
	now     atomic.Pointer[view] // nil before the first run
}

type view struct {
	metrics *Metrics
	handler http.Handler
}

// Listen serves /metrics at an address, such as 127.0.0.1:9464, until Close.
func Listen(ctx context.Context, address string) (*Live, error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listen for whoever reads metrics: %w; name another address, such as 127.0.0.1:9464", err)
	}
	l := &Live{address: listener.Addr()}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /metrics", l.serve)
	l.server = &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, WriteTimeout: 30 * time.Second, MaxHeaderBytes: 16 << 10}
	go func() { _ = l.server.Serve(listener) }() // ends with Close
	return l, nil
}

// Addr is where it listens.
func (l *Live) Addr() net.Addr { return l.address }

// Begin makes metrics for a run, which are served from now on.
func (l *Live) Begin(m results.Manifest) *Metrics {
	x := New(m)
	l.now.Store(&view{x, promhttp.HandlerFor(x.registry, promhttp.HandlerOpts{EnableOpenMetrics: true, MaxRequestsInFlight: 4})})
	return x
}

func (l *Live) serve(w http.ResponseWriter, r *http.Request) {
	v := l.now.Load()
	if v == nil {
		http.Error(w, "the run has not begun: its cluster is being started", http.StatusServiceUnavailable)
		return
	}
	v.handler.ServeHTTP(w, r)
}

// Close ends the serving, after requests that are under way, for a second.
func (l *Live) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if err := l.server.Shutdown(ctx); err != nil {
		return errors.Join(err, l.server.Close())
	}
	return nil
}
