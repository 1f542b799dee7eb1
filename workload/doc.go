// Package workload makes the mail of a day and asks a target the questions
// that it raises.
//
// A [Population] says who has an account, a [Model] how much mail comes when,
// and a [Trace] which messages and webmail logins follow from the two. All of
// it is a pure function of seeds, in integers and tables only, so that every
// machine makes the same bytes. A [Replay] walks a trace in open loop: each op
// has an intended wall time and is recorded with it, however late it was. A
// [Client] is how one of our machines asks: its connections, its servers in
// order, its retries and what it does without an answer.
package workload
