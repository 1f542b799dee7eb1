package maillog

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"

	"gotest.tools/v3/assert"
)

const benchmarkLines = 1_000_000

// longLog writes a log of a million lines in which mail comes 46 times a second,
// nine tenths of it refused or deferred and never seen again, in the proportions
// of lines that the programs write (see the samples).
func longLog(b testing.TB, format string) string {
	b.Helper()
	var out bytes.Buffer
	start := time.Date(2026, 3, 10, 0, 0, 0, 0, time.UTC)
	lines := 0
	put := func(form string, args ...any) {
		fmt.Fprintf(&out, form+"\n", args...)
		lines++
	}
	for n := 0; lines < benchmarkLines; n++ {
		at := start.Add(time.Duration(n) * time.Second / 46)
		peer := n * 7919 % 300_000 // hosts, two of a network
		client := fmt.Sprintf("10%d.%d.%d.%d", peer>>17, peer>>9&255, peer>>1&255, peer%250+1)
		from, to := fmt.Sprintf("user%d@d%d.example", n*7919%500_000, n*31%4096), fmt.Sprintf("student%d@calmail.example", n*104729%70_000)
		bsd, exim := at.Format("Jan _2 15:04:05"), at.Format("2006-01-02 15:04:05")
		taken := n%10 == 0
		switch {
		case format == "postgrey" && taken:
			put("%s mx1 postgrey[12]: action=pass, reason=triplet found, client_name=mail.d%d.example, client_address=%s, sender=%s, recipient=%s", bsd, n*31%4096, client, from, to)
		case format == "postgrey":
			put("%s mx1 postgrey[12]: action=greylist, reason=new, client_name=unknown, client_address=%s, sender=%s, recipient=%s", bsd, client, from, to)
		case format == "exim" && taken:
			id := fmt.Sprintf("1JlKxh-%06d-3r", n%1_000_000)
			put("%s %s <= %s H=mail.d%d.example [%s] P=esmtps X=TLS1.3:TLS_AES_256_GCM_SHA384:256 CV=no S=4261 id=%d.x@d%d.example for %s", exim, id, from, n*31%4096, client, n, n*31%4096, to)
			put("%s %s => student <%s> R=mailbox T=lmtp H=cyrus1 [192.0.2.5] C=\"250 2.1.5 Ok\"", exim, id, to)
			put("%s %s Completed", exim, id)
		case format == "exim":
			put("%s H=(pc-%d) [%s] F=<%s> temporarily rejected RCPT <%s>: greylisted.", exim, n, client, from, to)
		case taken:
			id := fmt.Sprintf("%011X", n)
			put("%s mx1 postfix/smtpd[606]: connect from mail.d%d.example[%s]", bsd, n*31%4096, client)
			put("%s mx1 postfix/smtpd[606]: %s: client=mail.d%d.example[%s]", bsd, id, n*31%4096, client)
			put("%s mx1 postfix/cleanup[612]: %s: message-id=<%d@d%d.example>", bsd, id, n, n*31%4096)
			put("%s mx1 postfix/qmgr[603]: %s: from=<%s>, size=4433, nrcpt=1 (queue active)", bsd, id, from)
			put("%s mx1 postfix/smtpd[606]: disconnect from mail.d%d.example[%s] ehlo=1 mail=1 rcpt=1 data=1 quit=1 commands=5", bsd, n*31%4096, client)
			put("%s mx1 postfix/lmtp[616]: %s: to=<%s>, relay=cyrus1[192.0.2.5]:24, delay=0.07, delays=0.02/0.02/0/0.03, dsn=2.0.0, status=sent (250 2.1.5 Ok)", bsd, id, to)
			put("%s mx1 postfix/qmgr[603]: %s: removed", bsd, id)
		default:
			put("%s mx1 postfix/smtpd[606]: connect from unknown[%s]", bsd, client)
			put("%s mx1 postfix/smtpd[606]: NOQUEUE: reject: RCPT from unknown[%s]: 450 4.2.0 <%s>: Recipient address rejected: Greylisted, see http://postgrey.schweikert.ch/help/calmail.example.html; from=<%s> to=<%s> proto=ESMTP helo=<pc-%d>", bsd, client, to, from, to, n)
			put("%s mx1 postfix/smtpd[606]: disconnect from unknown[%s] ehlo=1 mail=1 rcpt=0/1 quit=1 commands=3/4", bsd, client)
		}
	}
	path := filepath.Join(b.TempDir(), format+".log")
	assert.NilError(b, os.WriteFile(path, out.Bytes(), 0o600))
	return path
}

// processor is the time that this process has had on processors.
func processor(b *testing.B) time.Duration {
	var u syscall.Rusage
	assert.NilError(b, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// live is what is held of the heap.
func live() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// BenchmarkImport reads a log of a million lines twice, as an import does, and
// hands the messages on with pseudonyms. Rates count each line once, and the time
// of the processor, which is that of one core on a machine with nothing else to
// do. Mail comes from 300,000 hosts in 150,000 networks.
func BenchmarkImport(b *testing.B) {
	for _, format := range []string{"postgrey", "exim", "postfix"} {
		b.Run(format, func(b *testing.B) {
			path := longLog(b, format)
			size, err := os.Stat(path)
			assert.NilError(b, err)
			b.SetBytes(size.Size())
			var scanned, messages time.Duration
			var heap uint64
			b.ReportAllocs()
			for b.Loop() {
				began := processor(b)
				i, err := Open([]string{path}, Options{Year: 2026, Pseudonyms: NewPseudonyms(testKey, []string{"calmail.example"}, false)})
				assert.NilError(b, err)
				r, err := i.Scan(b.Context())
				assert.NilError(b, err)
				assert.Equal(b, r.Understood(), r.Lines)
				scanned += processor(b) - began
				heap = max(heap, live())
				began = processor(b)
				n := int64(0)
				for _, err := range i.Items(b.Context()) {
					if err != nil {
						b.Fatal(err)
					}
					n++
				}
				assert.Equal(b, n, r.Messages)
				messages += processor(b) - began
				heap = max(heap, live())
				assert.NilError(b, i.Close())
			}
			b.ReportMetric(float64(b.N)*benchmarkLines/scanned.Seconds(), "scan-lines/cpu-s")
			b.ReportMetric(float64(b.N)*benchmarkLines/messages.Seconds(), "items-lines/cpu-s")
			b.ReportMetric(float64(b.N)*benchmarkLines/(scanned+messages).Seconds(), "lines/cpu-s")
			b.ReportMetric(float64(heap)/(1<<20), "heap-MiB")
		})
	}
}
