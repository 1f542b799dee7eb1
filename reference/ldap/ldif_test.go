package ldap

import (
	"testing"
	"time"
)

func TestLDIF(t *testing.T) {
	e := entry{"mbId=a@example.edu,ou=accounts,o=mailbench", map[string][]string{
		"mbAddress": {"a@example.edu", "é@example.edu"}, "mbPreference": {"k= ", "k2=", " k3=x", "k4=\n"}, "mbFullName": {":x"}, "mbHost": {""},
	}}
	const want = `dn: mbId=a@example.edu,ou=accounts,o=mailbench
mbAddress: a@example.edu
mbAddress:: w6lAZXhhbXBsZS5lZHU=
mbFullName:: Ong=
mbHost: 
mbPreference:: az0g
mbPreference: k2=
mbPreference:: IGszPXg=
mbPreference:: azQ9Cg==
entryUUID: b403b8fd-9429-8399-a51b-2f5a20a99bf8
entryCSN: 20080415110000.000123Z#000000#00a#000000
creatorsName: cn=admin,o=mailbench
createTimestamp: 20080415110000Z
modifiersName: cn=admin,o=mailbench
modifyTimestamp: 20080415110000Z

`
	at := time.Date(2008, 4, 15, 13, 0, 0, 123_000, time.FixedZone("", 7200))
	if got := string(ldif([]entry{e}, stamp{at, 10})); got != want {
		t.Errorf("got:\n%swant:\n%s", got, want)
	}
}
