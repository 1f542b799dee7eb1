# Starts a provider: $1 is the folder of its database, $2 the LDIF file of a
# directory without mail. An empty folder is filled from that file, or from
# load.ldif where somebody has left one; which makes a directory anew. A start
# that was cut short begins again.
set -eu
conf=/etc/mailbench/slapd.conf
if [ -e "$1/load.ldif" ] || [ ! -e "$1/filled" ]; then
  rm -f "$1/data.mdb" "$1/lock.mdb"
  from=$2
  if [ -e "$1/load.ldif" ]; then from=$1/load.ldif; fi
  slapadd -q -w -f "$conf" -l "$from"
  touch "$1/filled"
  rm -f "$1/load.ldif"
fi
chown -R openldap:openldap "$1"
# slapd keeps room for as many connections as files may be open, and a container
# engine may allow a million.
ulimit -n 8192
exec slapd -f "$conf" -h ldap:/// -u openldap -g openldap -d 0
