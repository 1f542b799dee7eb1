#!/bin/bash
# Makes the sample logs with real programs: Debian's Exim, Postgrey, Postfix and
# rsyslog. It runs as root in a container without a network that has them all
# (the image of programs, and the packages postfix and rsyslog, which displace Exim: its
# binary is copied back).
# make.sh OUT writes the logs into OUT. All names are RFC 2606's, all addresses
# are for documentation.
set -eu
here=$(dirname "$(readlink -f "$0")"); out=$1; mkdir -p "$out" /tmp/mail; chmod 777 /tmp/mail
install -d -o postgrey -g postgrey /run/pg

# What comes in. Everybody comes twice: the second time the delay is over.
many=$(for i in $(seq 1 25); do printf 'student%02d.with.a.long.name@calmail.example,' "$i"; done)
sessions() { # calls "$@" NAME ADDRESS with transactions on stdin
  "$@" mail.far.example 192.0.2.10 <<'S'
alice@far.example|ann@calmail.example,bob@calmail.example,nobody@calmail.example|greetings
|ann@calmail.example|returned
S
  "$@" out7.lists.example 198.51.100.7 <<'S'
bounce-12345-77@lists.example|bob@calmail.example|list for today
S
  "$@" "" 203.0.113.200 <<'S'
viagra@bot.example|ann@calmail.example,aa.smith@calmail.example|BUY
"a b"@far.example|"Joe Q. for x"@calmail.example|quoted
victim@far.example|someone@elsewhere.example|relay
S
  "$@" mail6.far.example 2001:db8:1:2::25 <<'S'
Carol+Tag@Far.Example|Staff@CalMail.example,full@calmail.example|by IPv6
S
  "$@" big.far.example 192.0.2.11 <<S
registrar@far.example|${many%,}|to a class
S
}

cat >/etc/rsyslog.conf <<'R'
module(load="imuxsock")
template(name="old" type="string" string="%TIMESTAMP% %HOSTNAME% %syslogtag%%msg:::sp-if-no-1st-sp%%msg:::drop-last-lf%\n")
$template rfc5424,"<%PRI%>1 %TIMESTAMP:::date-rfc3339% %HOSTNAME% %APP-NAME% %PROCID% - - %msg:2:$%\n"
mail.* action(type="omfile" file="/var/log/mail.rfc3164" template="old")
mail.* action(type="omfile" file="/var/log/mail.iso" template="RSYSLOG_FileFormat")
mail.* action(type="omfile" file="/var/log/mail.rfc5424" template="rfc5424")
R
rsyslogd; sleep 1
start() {
  postgrey --unix=/run/pg/sock --daemonize --delay=3 --hostname=mx1.calmail.example --dbdir=/var/lib/postgrey --pidfile=/run/pg/pid
  until [ -S /run/pg/sock ]; do sleep 0.1; done; chmod 666 /run/pg/sock
}
start

# Exim. -bs with -oMa logs the peer that it is told of.
configure() { # MACRO=VALUE...
  { printf '%s\n' "$@"; cat "$here/exim.conf"; } >/etc/exim4/exim4.conf
  install -d -o Debian-exim -g Debian-exim /tmp/spool /tmp/log
}
exim_session() { # NAME ADDRESS
  perl "$here/talk.pl" "$1" "$2" exim4 -oMa "$2.4711" ${1:+-oMs "$1"} -odi -bs
}
exim_logs() { # MACRO=VALUE...
  configure "$@"
  sessions exim_session
  sleep 4
  sessions exim_session
  # Our own: by an authenticated client, and from the command line.
  echo 'ann@calmail.example|alice@calmail.example|ours' | perl "$here/talk.pl" pc 192.0.2.77 exim4 -oMa 192.0.2.77.1 -oMaa plain -oMai ann -odi -bs
  printf 'Subject: cron\n\n' | exim4 -odi ann@calmail.example
}
take() { # NAME
  for f in main reject; do mv "/tmp/log/${f}log" "$out/exim-$1.${f}log"; done
}
fresh() { # a new day: Postgrey forgets everything
  kill "$(cat /run/pg/pid)"; sleep 1; rm -f /var/lib/postgrey/* /run/pg/sock
  start
  : >/var/log/mail.rfc3164; : >/var/log/mail.iso; : >/var/log/mail.rfc5424
}
exim_logs LOGPATH=/tmp/log/%slog SPOOL=/tmp/spool
take plain
cp /var/log/mail.iso "$out/postgrey.iso.log"; cp /var/log/mail.rfc3164 "$out/postgrey.log"; cp /var/log/mail.rfc5424 "$out/postgrey.rfc5424.log"
fresh
exim_logs LOGPATH=/tmp/log/%slog SPOOL=/tmp/spool 'SELECTORS=+received_recipients +received_sender +millisec +pid +incoming_interface +smtp_connection +queue_time +deliver_time +sender_on_delivery +lost_incoming_connection +subject'
take full
fresh
exim_logs LOGPATH=/tmp/log/%slog SPOOL=/tmp/spool ZONED=1 SELECTORS=+received_recipients
take zoned
fresh
exim_logs LOGPATH=syslog SPOOL=/tmp/spool SELECTORS=+received_recipients
grep exim /var/log/mail.rfc3164 >"$out/exim-syslog.log"
# The day of the talk, by a moved clock and without Postgrey.
rm /run/pg/sock
configure LOGPATH=/tmp/log/%slog SPOOL=/tmp/spool SELECTORS=+received_recipients
session_2008() { perl "$here/talk.pl" "$1" "$2" faketime -f '@2008-04-14 09:26:53' exim4 -oMa "$2.4711" ${1:+-oMs "$1"} -odi -bs; }
sessions session_2008
take 2008
# Deliveries are another process, which Exim starts without the moved clock.
sed -i '/^2008/!d' "$out/exim-2008.mainlog"

# Postfix and Postgrey in one log, as on most machines that run both.
fresh
postconf -e maillog_file= inet_interfaces=loopback-only inet_protocols=all myhostname=mx1.calmail.example mydestination=calmail.example \
  'local_recipient_maps=regexp:/etc/postfix/users' smtpd_authorized_xclient_hosts=127.0.0.1 smtpd_upstream_proxy_protocol= \
  'smtpd_recipient_restrictions=permit_mynetworks,reject_unauth_destination,reject_unlisted_recipient,check_policy_service unix:/run/pg/sock' \
  'smtpd_relay_restrictions=reject_unauth_destination' mynetworks=127.0.0.0/8 mailbox_transport=discard \
  'alias_maps=inline:{{staff=ann,bob}}' alias_database= smtpd_delay_reject=yes disable_dns_lookups=yes \
   smtpd_client_restrictions= smtputf8_enable=no smtpd_hard_error_limit=1000 smtpd_soft_error_limit=1000 \
  maximal_idle=5 >/dev/null
printf '/^(ann|bob|staff|full|Staff|student\\d+.*)(@.*)?$/ x\n' >/etc/postfix/users
printf '12525 inet n - n - - smtpd\n' >>/etc/postfix/master.cf
sed -i -E 's/^(smtp +inet)/#\1/; s/^([a-z]+ +(unix|inet)( +[-yn0-9?]+){2} +)y/\1n/' /etc/postfix/master.cf
postfix start >/dev/null 2>&1 || true; sleep 3
postfix_session() { perl "$here/talk.pl" "$1" "$2" 127.0.0.1:12525; }
sessions postfix_session; sleep 4; sessions postfix_session
printf 'Subject: cron\n\n' | sendmail ann@calmail.example; sleep 3
cp /var/log/mail.iso "$out/postfix-postgrey.iso.log"; cp /var/log/mail.rfc3164 "$out/postfix-postgrey.log"
