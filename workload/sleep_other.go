//go:build !linux

package workload

// newAlarm has none to offer.
func newAlarm() (alarm, error) { return nil, nil }
