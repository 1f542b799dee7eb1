package ndberr

import "strings"

// ManagementCode returns the number of the error of which a management server
// has sent only the text, as its stop, start and dump commands do (Services.cpp
// prints get_error_text), and 0 for a text that it does not know. The text may
// go on with the error's status and classification, after a colon.
func ManagementCode(text string) uint16 {
	for _, e := range managementTexts {
		if rest, ok := strings.CutPrefix(text, e.text); ok && (rest == "" || rest[0] == ':') {
			return e.number
		}
	}
	return 0
}

// managementTexts are those of 9.7.4 (ndbapi/ndberror.cpp). It is never written to.
var managementTexts = [...]struct {
	number uint16
	text   string
}{
	{5000, "No contact with the process (dead ?)."},
	{5002, "The process has wrong type. Expected a DB process."},
	{5005, "Send to process or receive failed."},
	{5024, "Time-out due to node shutdown not starting in time"},
	{5025, "Time-out due to node shutdown not completing in time"},
	{5026, "Node shutdown in progress"},
	{5027, "System shutdown in progress"},
	{5028, "Node shutdown would cause system crash"},
	{5030, "No contact with database nodes"},
	{5031, "Unsupported multi node shutdown. Abort option required."},
	{5063, "Operation not allowed while nodes are starting or stopping."},
}
