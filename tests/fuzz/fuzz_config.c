/*
 * The reader of raft.conf against any bytes: it never crashes, and it either fills a configuration that keeps its own promises
 * or reports as many well-formed lines as it says. The scan and iniparser must never disagree about a value.
 */
#include "daemon/config/config.h"
#include "daemon/config/mistake.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(int condition)
{
	if (!condition)
		abort();
}

static void check_line(void *arg, const char *line)
{
	static const char disagree[] = "with no other quote in it";
	unsigned *shown = arg;

	++*shown;
	require(strncmp(line, "/proc/self/fd/", 14) == 0);
	for (const char *c = line; *c != '\0'; c++)
		require((unsigned char)*c >= 0x20 && *c != 0x7f);
	/* At the end, where no text of the input can stand: config.c says so when the two disagree. */
	const size_t len = strlen(line), disagree_len = strlen(disagree);
	require(len < disagree_len || strcmp(line + len - disagree_len, disagree) != 0);
}

static void check_config(const struct config *config)
{
	const char *why;

	require(config->cluster_name[0] != '\0');
	require(config->n_members >= 1 && config->n_members <= RAFT_MEMBERS_MAX);
	for (unsigned i = 0; i < config->n_members; i++) {
		const struct config_member *member = &config->members[i];
		require(member->id >= 1 && member->id <= INT64_MAX);
		require(i == 0 || member->id > config->members[i - 1].id);
		require(config_parse_endpoint(member->peer, &why) && config_parse_endpoint(member->client, &why));
		require(member->data[0] == '/');
		require(config_find_member(config, member->id) == member);
	}
	require(config->heartbeat_ms < config->election_timeout_min_ms);
	require(config->election_timeout_min_ms < config->election_timeout_max_ms);
	require(config->segment_size % 4096 == 0 && config->segment_size >= 4u << 20);
	require(config->bridge_socket[0] == '/' && strlen(config->bridge_socket) <= 107);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct config config;
	char path[64];
	unsigned shown = 0;

	int fd = memfd_create("fuzz", MFD_CLOEXEC);
	require(fd >= 0);
	for (size_t done = 0; done < size;) {
		ssize_t n = write(fd, data + done, size - done);
		require(n > 0 || errno == EINTR);
		done += n > 0 ? (size_t)n : 0;
	}
	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	int count = config_read(path, &config, check_line, &shown);
	require(count >= 0);
	if (count == 0)
		check_config(&config);
	else
		require(count <= CONFIG_MISTAKES_SHOWN_MAX ? (int)shown == count
							   : shown == CONFIG_MISTAKES_SHOWN_MAX + 1);
	(void)close(fd);
	return 0;
}
