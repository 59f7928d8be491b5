/** Open to every buyer, until an admin says otherwise. */
export const DEFAULT_PORTS: ReadonlySet<number> = new Set([80, 443]);

/** Open to every buyer who may use UDP, until an admin says otherwise: names (dns) and HTTP/3. */
export const DEFAULT_UDP_PORTS: ReadonlySet<number> = new Set([53, 443]);

/**
 * Never open without an admin's audited grant of that very port, whatever else a buyer is allowed: mail (spam from
 * somebody's home), remote shells and desktops, file sharing, databases and other services that are meant for a
 * network of one's own.
 */
export const NEVER_ALLOWED_PORTS: ReadonlySet<number> = new Set([
  0, // no port
  7, // echo
  9, // discard
  17, // qotd
  19, // chargen
  21, // ftp
  22, // ssh
  23, // telnet
  25, // smtp
  53, // dns
  69, // tftp
  111, // portmapper
  110, // pop3
  119, // nntp
  123, // ntp
  135, // msrpc
  136, // profile
  137, // netbios
  138, // netbios
  139, // netbios
  143, // imap
  161, // snmp
  162, // snmp trap
  179, // bgp
  389, // ldap
  445, // smb
  465, // smtps
  512, // rexec
  513, // rlogin
  514, // rsh, syslog
  515, // printer
  548, // afp
  554, // rtsp
  587, // submission
  631, // ipp
  636, // ldaps
  873, // rsync
  993, // imaps
  995, // pop3s
  1080, // socks
  1194, // openvpn
  1433, // mssql
  1521, // oracle
  1723, // pptp
  1900, // ssdp
  2049, // nfs
  2323, // telnet, favoured by botnets
  2375, // docker
  2376, // docker
  2525, // smtp
  3128, // proxies
  3306, // mysql
  3389, // rdp
  5060, // sip
  5061, // sip
  5353, // mdns
  5432, // postgres
  5555, // adb
  5900, // vnc
  5901, // vnc
  5985, // winrm
  5986, // winrm
  6379, // redis
  6660, // irc
  6661, // irc
  6662, // irc
  6663, // irc
  6664, // irc
  6665, // irc
  6666, // irc
  6667, // irc
  6668, // irc
  6669, // irc
  6697, // irc
  9100, // printer
  9200, // elasticsearch
  11211, // memcached
  27017, // mongodb
]);
