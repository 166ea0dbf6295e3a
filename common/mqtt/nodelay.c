#include "common/mqtt/nodelay.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

static int peer_port(int fd)
{
	struct sockaddr_storage peer;
	socklen_t len = sizeof(peer);
	if (getpeername(fd, (struct sockaddr *)&peer, &len) < 0)
		return -1;
	if (peer.ss_family == AF_INET)
		return ntohs(((struct sockaddr_in *)&peer)->sin_port);
	if (peer.ss_family == AF_INET6)
		return ntohs(((struct sockaddr_in6 *)&peer)->sin6_port);
	return -1;
}

void nodelay_to(int port)
{
	const int on = 1;
	for (int fd = 0; fd < NODELAY_FDS; fd++)
		if (peer_port(fd) == port)
			setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
}
