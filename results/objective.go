package results

// Objective is an SLO: of the events on Path (all paths if empty), the share
// Target must be good. An op is good when its outcome is ok or retried and,
// where LatencyUS is set, its response took no longer.
type Objective struct {
	Name      string `json:"name"`
	Path      string `json:"path,omitempty"`       // "routing", "greylist", "preferences" or ""
	TargetPPM int64  `json:"target_ppm"`           // required share of good events, in millionths: 999000 is 99.9 %
	LatencyUS int64  `json:"latency_us,omitempty"` // response time bound in microseconds, 0 for none
	Degraded  string `json:"degraded,omitempty"`   // "bad" (default) or "good"
}
