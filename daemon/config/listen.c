/*
 * Where metrics and health are served: see config_parse_listen in parse.h.
 *
 * The default is nowhere. A loopback address or a Unix socket stays on the host; anything else has to be asked for in
 * words that say what it means, as whoever connects is shown everything, and nothing is encrypted.
 */
#include "daemon/config/parse.h"

#include "daemon/assert.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

#define OPEN_PREFIX "open-to-network "
#define TCP_PREFIX "tcp://"
#define TEXT_MAX 256u

/* Replaces each %i. False: too long, or another character after the %. */
static bool expand(const char *text, uint64_t id, char ret[TEXT_MAX], const char **ret_why)
{
	size_t len = 0;

	for (const char *at = text; *at != '\0'; at++) {
		int n;
		if (*at != '%') {
			n = snprintf(ret + len, TEXT_MAX - len, "%c", *at);
		} else if (at[1] != 'i') {
			*ret_why = "after '%' only 'i' may follow: it stands for the member's id";
			return false;
		} else if (id == 0) {
			*ret_why = "'%i' stands for a member's id, and there is none here";
			return false;
		} else {
			at++;
			n = snprintf(ret + len, TEXT_MAX - len, "%llu", (unsigned long long)id);
		}
		raft_assert(n > 0);
		len += (size_t)n;
		if (len >= TEXT_MAX) {
			*ret_why = "it is too long";
			return false;
		}
	}
	ret[len] = '\0';
	return true;
}

/* Takes host and port apart; the host is a numeric address. */
static const char *take_address(char *text, struct config_listen *listen, bool *ret_loopback)
{
	static const char form[] = "an address is tcp://127.0.0.1:7601 or tcp://[::1]:7601, with a numeric host";
	char *host = text, *colon = strrchr(text, ':');
	bool v6 = text[0] == '[';
	struct in_addr v4_address;
	struct in6_addr v6_address;
	uint64_t port;

	if (colon == NULL)
		return form;
	*colon = '\0';
	if (v6) {
		if (colon == text + 1 || colon[-1] != ']')
			return form;
		colon[-1] = '\0';
		host++;
	}
	if (strlen(host) > CONFIG_LISTEN_HOST_MAX)
		return form;
	if (v6 && inet_pton(AF_INET6, host, &v6_address) == 1)
		*ret_loopback = IN6_IS_ADDR_LOOPBACK(&v6_address);
	else if (!v6 && inet_pton(AF_INET, host, &v4_address) == 1)
		*ret_loopback = ntohl(v4_address.s_addr) >> 24 == IN_LOOPBACKNET;
	else
		return form;
	if (!config_parse_u64(colon + 1, 1, 65535, &port))
		return "the port must be a number 1 ... 65535";
	memcpy(listen->host, host, strlen(host) + 1);
	listen->port = (uint16_t)port;
	return NULL;
}

static const char *take_tcp(char *text, bool open, struct config_listen *listen)
{
	bool loopback = false;
	const char *why = take_address(text, listen, &loopback);

	if (why == NULL && !loopback && !open)
		return "this is no loopback address: whoever can connect reads everything that is served, without "
		       "password and unencrypted. If that is meant, write: open-to-network tcp://address:port";
	if (why == NULL && loopback && open)
		return "a loopback address is not open to the network: leave out 'open-to-network'";
	return why;
}

static const char *take_path(const char *text, struct config_listen *listen)
{
	const char *why = NULL;

	_Static_assert(CONFIG_LISTEN_PATH_MAX == CONFIG_SOCKET_PATH_MAX, "one limit of the kernel");
	if (!config_parse_path(text, CONFIG_SOCKET_PATH_MAX, &why))
		return why;
	if (text[1] == '\0')
		return "'/' is a directory, not the path of a socket";
	memcpy(listen->path, text, strlen(text) + 1);
	return NULL;
}

bool config_parse_listen(const char *text, uint64_t id, struct config_listen *ret, const char **ret_why)
{
	raft_assert(text != NULL && ret != NULL && ret_why != NULL);
	struct config_listen listen = {0};
	char expanded[TEXT_MAX];
	char *rest = expanded;
	const char *why = NULL;

	if (!expand(text, id, expanded, ret_why))
		return false;
	bool open = strncmp(rest, OPEN_PREFIX, strlen(OPEN_PREFIX)) == 0;
	if (open)
		rest += strlen(OPEN_PREFIX);
	if (strncmp(rest, TCP_PREFIX, strlen(TCP_PREFIX)) == 0)
		why = take_tcp(rest + strlen(TCP_PREFIX), open, &listen);
	else if (!open && rest[0] == '/')
		why = take_path(rest, &listen);
	else if (open || strcmp(rest, "off") != 0)
		why = "allowed is off, the absolute path of a socket, or tcp://127.0.0.1:port";
	if (why == NULL) {
		*ret = listen;
		return true;
	}
	*ret_why = why;
	return false;
}
