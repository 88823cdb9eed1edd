/*
 * A ZeroMQ peer made of plain sockets, for tests: says what a well-behaved library never would.
 *
 * Speaks just enough ZMTP 3 (NULL mechanism) to be let in. And what tests of ZeroMQ endpoints need besides:
 * free ports, deadlines.
 */
#ifndef TESTS_UNIT_ZMTP_RAW_H
#define TESTS_UNIT_ZMTP_RAW_H

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define ZMTP_MORE 1u
#define ZMTP_LONG 2u
#define ZMTP_COMMAND 4u

static inline int64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Waits until fd is readable, at most timeout_ms. */
static inline bool wait_readable(int fd, int timeout_ms)
{
	struct pollfd poll_fd = {.fd = fd, .events = POLLIN};

	return poll(&poll_fd, 1, timeout_ms) == 1;
}

/* A TCP port of the loopback that nobody uses; 0 if the machine lacks the family. */
static inline uint16_t free_port(int family)
{
	union {
		struct sockaddr any;
		struct sockaddr_in v4;
		struct sockaddr_in6 v6;
	} address = {.any.sa_family = (sa_family_t)family};
	socklen_t len = family == AF_INET ? sizeof(address.v4) : sizeof(address.v6);
	uint16_t port = 0;

	if (family == AF_INET)
		address.v4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	else
		address.v6.sin6_addr = in6addr_loopback;
	int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return 0;
	if (bind(fd, &address.any, len) == 0 && getsockname(fd, &address.any, &len) == 0)
		port = ntohs(family == AF_INET ? address.v4.sin_port : address.v6.sin6_port);
	close(fd);
	return port;
}

/* A blocking connection to 127.0.0.1, whose reads and writes give up after five seconds. */
static inline int raw_connect(uint16_t port)
{
	struct sockaddr_in address = {
		.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct timeval limit = {.tv_sec = 5};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -1;
	(void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	(void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
	if (connect(fd, (const struct sockaddr *)&address, sizeof(address)) == 0)
		return fd;
	close(fd);
	return -1;
}

static inline bool raw_write(int fd, const void *data, size_t len)
{
	return send(fd, data, len, MSG_NOSIGNAL) == (ssize_t)len;
}

static inline bool raw_read(int fd, void *data, size_t len)
{
	return recv(fd, data, len, MSG_WAITALL) == (ssize_t)len;
}

/* True when the other side closes the connection within five seconds; what it says before is thrown away. */
static inline bool raw_is_closed(int fd)
{
	char buf[4096];
	ssize_t n;

	while ((n = recv(fd, buf, sizeof(buf), 0)) > 0)
		;
	return n == 0 || (n < 0 && errno == ECONNRESET);
}

static inline bool raw_frame(int fd, unsigned flags, const void *data, size_t len)
{
	uint8_t header[9] = {(uint8_t)(flags | ZMTP_LONG)};

	for (unsigned k = 0; k < 8; k++)
		header[1 + k] = (uint8_t)((uint64_t)len >> (56 - 8 * k));
	return raw_write(fd, header, sizeof(header)) && (len == 0 || raw_write(fd, data, len));
}

/* Greeting and READY, as a DEALER with that identity (NULL: none). */
static inline bool raw_handshake(int fd, const void *identity, size_t identity_size)
{
	static const uint8_t ready_head[] = "\5READY\13Socket-Type\0\0\0\6DEALER\10Identity\0\0\0";
	uint8_t greeting[64] = {0xFF, 0, 0, 0, 0, 0, 0, 0, 1, 0x7F, 3, 1, 'N', 'U', 'L', 'L'};
	uint8_t theirs[64], ready[sizeof(ready_head) + 255], header[2];
	size_t len = sizeof(ready_head) - 1;

	memcpy(ready, ready_head, len);
	ready[len++] = (uint8_t)identity_size;
	if (identity_size > 0)
		memcpy(ready + len, identity, identity_size);
	len += identity_size;
	return raw_write(fd, greeting, sizeof(greeting)) && raw_read(fd, theirs, sizeof(theirs)) &&
	       raw_frame(fd, ZMTP_COMMAND, ready, len) && raw_read(fd, header, sizeof(header)) &&
	       header[0] == ZMTP_COMMAND && raw_read(fd, ready, header[1]);
}

#endif
