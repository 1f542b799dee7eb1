// Package maillog makes a trace of the mail that a mail server has logged: from
// Postgrey's log, Exim's main and reject log, and Postfix's.
//
// [Open] takes the files. [Import.Scan] reads them once and says what is in
// them; [Import.Items] reads them again and yields the messages in the order of
// time. Two passes are needed because only the rest of a log tells whether a
// sender that was deferred has come back. Neither holds the log: what is kept is
// a line of each file, the messages that are still being received, the
// deferred triplets of one retry window, and one byte a message.
//
// Addresses are replaced by a keyed hash unless the caller says otherwise, see
// [Pseudonyms].
package maillog
