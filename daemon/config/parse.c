/*
 * Strict parsers of single values: the whole text is one value in range, or it is refused.
 *
 * Pure functions over text, independent of the locale. What this must not know: files, sections, keys, DNS: whether a host name
 * resolves is for the moment when it is used.
 */
#include "daemon/config/parse.h"

#include "daemon/assert.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#define HOST_MAX 200u /* less than an endpoint */

_Static_assert(CONFIG_ENDPOINT_MAX <= HOST_MAX, "a host always fits its buffer");
_Static_assert(CONFIG_SOCKET_PATH_MAX + sizeof("ipc://") - 1 <= CONFIG_ENDPOINT_MAX, "every ipc path fits");

/* ctype.h asks the locale, and raft.conf means the same everywhere. */
static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool is_letter(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool is_control(char c)
{
	return (unsigned char)c < 0x20 || c == 0x7f;
}

/* Digits from text up to the first other character; no leading zero, no overflow. *ret_end: that character. */
static bool parse_digits(const char *text, uint64_t *ret, const char **ret_end)
{
	uint64_t value = 0;
	const char *p = text;

	raft_assert(text != NULL && ret != NULL && ret_end != NULL);
	if (!is_digit(*p) || (p[0] == '0' && is_digit(p[1])))
		return false;
	for (; is_digit(*p); p++) {
		unsigned digit = (unsigned)(*p - '0');
		if (value > (UINT64_MAX - digit) / 10)
			return false;
		value = value * 10 + digit;
	}
	*ret = value;
	*ret_end = p;
	return true;
}

bool config_parse_u64(const char *text, uint64_t min, uint64_t max, uint64_t *ret)
{
	uint64_t value;
	const char *end;

	raft_assert(text != NULL && ret != NULL);
	raft_assert(min <= max);
	if (!parse_digits(text, &value, &end) || *end != '\0' || value < min || value > max)
		return false;
	*ret = value;
	return true;
}

bool config_parse_size(const char *text, uint64_t min, uint64_t max, uint64_t *ret)
{
	static const struct {
		const char *name;
		unsigned shift;
	} units[] = {{"", 0}, {"KiB", 10}, {"MiB", 20}, {"GiB", 30}};
	uint64_t value;
	const char *end;

	raft_assert(text != NULL && ret != NULL);
	raft_assert(min <= max);
	if (!parse_digits(text, &value, &end))
		return false;
	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
		if (strcmp(end, units[i].name) != 0)
			continue;
		if (value > UINT64_MAX >> units[i].shift)
			return false;
		value <<= units[i].shift;
		if (value < min || value > max)
			return false;
		*ret = value;
		return true;
	}
	return false;
}

bool config_parse_octal(const char *text, uint32_t max, uint32_t *ret)
{
	uint32_t value = 0;
	size_t len = strlen(text);

	raft_assert(ret != NULL);
	if (len < 1 || len > 4)
		return false;
	for (size_t i = 0; i < len; i++) {
		if (text[i] < '0' || text[i] > '7')
			return false;
		value = value * 8 + (uint32_t)(text[i] - '0');
	}
	raft_assert(value <= 07777);
	if (value > max)
		return false;
	*ret = value;
	return true;
}

bool config_parse_name(const char *text)
{
	size_t len = strlen(text);

	if (len < 1 || len > CONFIG_NAME_MAX)
		return false;
	for (size_t i = 0; i < len; i++) {
		char c = text[i];
		if (!is_letter(c) && !is_digit(c) && c != '-' && c != '_' && c != '.')
			return false;
	}
	return true;
}

bool config_parse_path(const char *text, uint32_t max, const char **ret_why)
{
	size_t len = strlen(text);

	raft_assert(ret_why != NULL);
	*ret_why = NULL;
	if (text[0] != '/')
		*ret_why = "the path must be absolute: it begins with '/'";
	else if (len > max)
		*ret_why = max == CONFIG_SOCKET_PATH_MAX ? "the path of a socket has at most 107 bytes"
							 : "the path is too long";
	else if (len > 1 && text[len - 1] == '/')
		*ret_why = "the path must not end in '/'";
	for (size_t i = 0; i < len && *ret_why == NULL; i++) {
		if (is_control(text[i]))
			*ret_why = "the path must not hold control characters";
	}
	return *ret_why == NULL;
}

/* Endpoints ------------------------------------------------------------------------------------------- */

/* A name by RFC 1123, with the underscore that real hosts have. len > 0. */
static const char *check_host_name(const char *host, size_t len)
{
	size_t label = 0;

	raft_assert(len > 0);
	for (size_t i = 0; i < len; i++) {
		char c = host[i];
		if (c == '.') {
			if (label == 0)
				return "the host name has an empty part: dots separate parts";
			if (host[i - 1] == '-')
				return "a part of the host name must not end in '-'";
			label = 0;
			continue;
		}
		if (c == ':')
			return "an IPv6 address stands in brackets: tcp://[::1]:7401";
		if (!is_letter(c) && !is_digit(c) && c != '-' && c != '_')
			return "the host must be a name (letters, digits, '-', '_', '.') or an address";
		if (c == '-' && label == 0)
			return "a part of the host name must not begin with '-'";
		if (++label > 63)
			return "a part of the host name has at most 63 characters";
	}
	return host[len - 1] == '-' || host[len - 1] == '.' ? "the host name must not end in '-' or '.'" : NULL;
}

static const char *check_ipv4_or_name(const char *host, size_t len)
{
	char text[HOST_MAX + 1];
	struct in_addr address;

	if (len == 0)
		return "the host is missing: tcp://host:port";
	if (len == 1 && host[0] == '*')
		return "'*' is not an address that others can connect to: name this member's host or address";
	raft_assert(len <= HOST_MAX);
	memcpy(text, host, len);
	text[len] = '\0';
	if (inet_pton(AF_INET, text, &address) == 1)
		return address.s_addr == INADDR_ANY ? "0.0.0.0 is not an address that others can connect to" : NULL;
	const char *why = check_host_name(host, len);
	if (why != NULL)
		return why;
	/* "127.1", "256.0.0.1" and "1" would be read as addresses by some resolvers and as names by others. */
	const char *last = strrchr(text, '.');
	last = last != NULL ? last + 1 : text;
	if (last[strspn(last, "0123456789")] == '\0')
		return "this is not an IPv4 address: four numbers 0 ... 255 with dots between";
	return NULL;
}

static const char *check_ipv6(const char *host, size_t len)
{
	char text[HOST_MAX + 1];
	struct in6_addr address;

	raft_assert(len <= HOST_MAX);
	memcpy(text, host, len);
	text[len] = '\0';
	if (inet_pton(AF_INET6, text, &address) != 1)
		return "what stands in brackets is not an IPv6 address (without a zone)";
	return IN6_IS_ADDR_UNSPECIFIED(&address) ? "[::] is not an address that others can connect to" : NULL;
}

/* rest: what follows tcp://. */
static const char *check_tcp(const char *rest)
{
	const char *why, *port;
	uint64_t number;

	if (rest[0] == '[') {
		const char *close = strchr(rest, ']');
		if (close == NULL || close[1] != ':')
			return "an IPv6 endpoint is written tcp://[address]:port";
		why = check_ipv6(rest + 1, (size_t)(close - rest - 1));
		port = close + 2;
	} else {
		const char *colon = strrchr(rest, ':');
		if (colon == NULL)
			return "the port is missing: tcp://host:port";
		why = check_ipv4_or_name(rest, (size_t)(colon - rest));
		port = colon + 1;
	}
	if (why != NULL)
		return why;
	return config_parse_u64(port, 1, 65535, &number) ? NULL : "the port must be a number 1 ... 65535";
}

static const char *check_ipc(const char *path)
{
	const char *why;

	if (path[0] != '/')
		return "an ipc endpoint is ipc:// and an absolute path: ipc:///run/raft/1/peer";
	(void)config_parse_path(path, CONFIG_SOCKET_PATH_MAX, &why);
	return why == NULL && path[1] == '\0' ? "'/' is a directory, not the path of a socket" : why;
}

bool config_parse_endpoint(const char *text, const char **ret_why)
{
	raft_assert(text != NULL && ret_why != NULL);
	const char *why;

	if (strncmp(text, "ipc://", 6) == 0)
		why = check_ipc(text + 6);
	else if (strlen(text) > CONFIG_ENDPOINT_MAX)
		why = "an endpoint has at most 200 bytes";
	else if (strncmp(text, "tcp://", 6) == 0)
		why = check_tcp(text + 6);
	else
		why = "an endpoint is tcp://host:port, tcp://[ipv6]:port or ipc:///absolute/path";
	if (why == NULL)
		return true;
	*ret_why = why;
	return false;
}

void config_endpoint_normal(const char *text, char ret[CONFIG_ENDPOINT_MAX + 64])
{
	size_t len = strlen(text);
	struct in6_addr address;

	raft_assert(len <= CONFIG_ENDPOINT_MAX);
	memcpy(ret, text, len + 1);
	if (strncmp(text, "tcp://", 6) != 0)
		return;
	for (size_t i = 0; i < len; i++) {
		if (ret[i] >= 'A' && ret[i] <= 'Z')
			ret[i] = (char)(ret[i] - 'A' + 'a');
	}
	char *close = strchr(ret, ']');
	if (ret[6] != '[' || close == NULL)
		return;
	*close = '\0';
	if (inet_pton(AF_INET6, ret + 7, &address) == 1) {
		char shortest[INET6_ADDRSTRLEN] = "";
		(void)inet_ntop(AF_INET6, &address, shortest, sizeof(shortest));
		(void)snprintf(ret, CONFIG_ENDPOINT_MAX + 64, "tcp://[%s]%s", shortest, text + (close - ret) + 1);
	} else {
		*close = ']';
	}
}
