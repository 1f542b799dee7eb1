package chaos

// Defaults returns settings of a kind with those filled in that are not set and
// have a default. What no kind of the catalogue is has none.
func (k Kind) Defaults(s Settings) Settings {
	d, err := describe(k)
	if err != nil {
		return s
	}
	for _, own := range d.Settings {
		if !own.isSet(s) && own.resolve != nil {
			own.resolve(&s)
		}
	}
	return s
}
