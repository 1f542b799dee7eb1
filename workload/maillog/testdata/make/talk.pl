# Speaks SMTP: talk.pl NAME ADDRESS HOST:PORT, or with a command in the place of
# HOST:PORT. To a port it claims to be NAME and ADDRESS with XCLIENT. It reads
# transactions, one a line: sender|recipient[,recipient...]|subject.
use strict; use IO::Socket::INET; use IPC::Open2;
my ($name, $address, @to) = @ARGV;
my @lines = <STDIN>; chomp @lines;
my ($in, $out);
if ($to[0] =~ /^[\d.]+:\d+$/) { $in = $out = IO::Socket::INET->new(PeerAddr => $to[0]) or die $@ } else { open2($in, $out, @to) }
sub answer { my $l; do { $l = <$in> // die "hung up" } while $l =~ /^\d+-/; return substr $l, 0, 3 }
sub command { print $out "$_[0]\r\n"; $out->flush; return answer() }
answer();
my $helo = $name || "[192.0.2.99]";
command("EHLO $helo");
if ($in == $out) { $address = "IPV6:$address" if $address =~ /:/; command("XCLIENT NAME=" . ($name || "[UNAVAILABLE]") . " ADDR=$address"); command("EHLO $helo") }
for (@lines) {
  my ($from, $to, $subject) = split /\|/;
  command("MAIL FROM:<$from>");
  my $ok = 0;
  for (split /,/, $to) { $ok++ if command("RCPT TO:<$_>") =~ /^2/ }
  if ($ok && command("DATA") =~ /^3/) { command("Subject: $subject\r\nFrom: <someone\@far.example>\r\n\r\ntext\r\n.") }
  command("RSET");
}
command("QUIT");
