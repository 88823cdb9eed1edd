/*
 * The strict reader of raft.conf: every way in which iniparser 4.1 is known to crash or to lie, and every rule of config.h.
 * Each case says which line it expects and what the message must hold.
 */
#include "daemon/config/config.h"
#include "daemon/config/mistake.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

/* A valid file for one member in lines 1 to 5; cases put their lines after it or replace it. */
#define CLUSTER "[cluster]\nname = c\n"
#define MEMBER "[member 1]\npeer = tcp://127.0.0.1:7401\nclient = tcp://127.0.0.1:7501\n"
#define BASE CLUSTER MEMBER

struct fixture {
	char path[64];
	struct config config;
	char lines[64][1024];
	int n_lines;
};

static void collect(void *arg, const char *line)
{
	struct fixture *fixture = arg;

	assert_true(fixture->n_lines < 64);
	assert_null(strchr(line, '\n'));
	(void)snprintf(fixture->lines[fixture->n_lines++], sizeof(fixture->lines[0]), "%s", line);
}

static int set_up(void **state)
{
	struct fixture *fixture = calloc(1, sizeof(*fixture));

	assert_non_null(fixture);
	strcpy(fixture->path, "/tmp/raft-test-config-XXXXXX");
	int fd = mkstemp(fixture->path);
	assert_true(fd >= 0);
	close(fd);
	*state = fixture;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *fixture = *state;

	unlink(fixture->path);
	free(fixture);
	return 0;
}

static int read_bytes(struct fixture *fixture, const void *bytes, size_t len)
{
	FILE *file = fopen(fixture->path, "w");

	assert_non_null(file);
	assert_int_equal(fwrite(bytes, 1, len, file), len);
	assert_int_equal(fclose(file), 0);
	fixture->n_lines = 0;
	memset(&fixture->config, 0xa5, sizeof(fixture->config));
	int count = config_read(fixture->path, &fixture->config, collect, fixture);
	assert_int_equal(count, fixture->n_lines);
	/* Untouched on failure. */
	if (count != 0)
		assert_int_equal(fixture->config.n_members, 0xa5a5a5a5u);
	return count;
}

static int read_text(struct fixture *fixture, const char *text)
{
	return read_bytes(fixture, text, strlen(text));
}

static void expect_valid(struct fixture *fixture, const char *text)
{
	if (read_text(fixture, text) != 0)
		fail_msg("refused: %s", fixture->lines[0]);
}

/* Some mistake begins with `path:line: ` (line 0: `path: `) and holds both texts. */
static void expect_mistake(const struct fixture *fixture, unsigned line, const char *where, const char *what)
{
	char head[96];

	if (line > 0)
		snprintf(head, sizeof(head), "%s:%u: %s", fixture->path, line, where);
	else
		snprintf(head, sizeof(head), "%s: %s", fixture->path, where);
	for (int i = 0; i < fixture->n_lines; i++) {
		if (strncmp(fixture->lines[i], head, strlen(head)) == 0 && strstr(fixture->lines[i], what) != NULL)
			return;
	}
	fail_msg("no mistake '%s ... %s' among %d, first: %s", head, what, fixture->n_lines,
		 fixture->n_lines > 0 ? fixture->lines[0] : "none");
}

/* The one and only mistake of this text. */
static void expect_only(struct fixture *fixture, const char *text, unsigned line, const char *where, const char *what)
{
	int count = read_text(fixture, text);

	if (count != 1)
		fail_msg("%d mistakes, first: %s, second: %s", count, count > 0 ? fixture->lines[0] : "none",
			 count > 1 ? fixture->lines[1] : "none");
	expect_mistake(fixture, line, where, what);
}

/* What is read -------------------------------------------------------------------------------------------- */

static void test_smallest_file_gets_documented_defaults(void **state)
{
	struct fixture *fixture = *state;
	const struct config *config = &fixture->config;

	expect_valid(fixture, BASE);
	assert_string_equal(config->cluster_name, "c");
	assert_int_equal(config->n_members, 1);
	assert_int_equal(config->members[0].id, 1);
	assert_string_equal(config->members[0].peer, "tcp://127.0.0.1:7401");
	assert_string_equal(config->members[0].client, "tcp://127.0.0.1:7501");
	assert_string_equal(config->members[0].data, "/var/lib/raft/1");
	assert_int_equal(config->heartbeat_ms, 50);
	assert_int_equal(config->election_timeout_min_ms, 150);
	assert_int_equal(config->read_mode, CONFIG_READ_INDEX);
	assert_int_equal(config->clock_drift_percent, 10);
	assert_int_equal(config->election_timeout_max_ms, 300);
	assert_int_equal(config->segment_size, 16 << 20);
	assert_int_equal(config->log_cache_size, 32 << 20);
	assert_int_equal(config->snapshot_log_size, 32 << 20);
	assert_int_equal(config->snapshot_log_percent, 100);
	assert_int_equal(config->log_level, CONFIG_LOG_INFO);
	assert_string_equal(config->bridge_socket, "/run/raft/kv.sock");
	assert_int_equal(config->bridge_socket_mode, 0660);
	assert_int_equal(config->request_timeout_ms, 5000);
	assert_int_equal(config->connections_max, 16384);
}

static void test_every_key_is_read(void **state)
{
	struct fixture *fixture = *state;
	const struct config *config = &fixture->config;

	expect_valid(fixture,
		     "[bridge]\nsocket = /s\nsocket_mode = 0600\nrequest_timeout_ms = 10\nconnections_max = 1\n"
		     "[raft]\ndata_root = /d\nheartbeat_ms = 1\nelection_timeout_min_ms = 2\n"
		     "election_timeout_max_ms = 3\nsegment_size = 4MiB\nlog_cache_size = 64GiB\nlog_level = debug\n"
		     "snapshot_log_size = 64KiB\nsnapshot_log_percent = 10000\nread_mode = index\n"
		     "clock_drift_percent = 25\n"
		     "[member 9223372036854775807]\npeer = ipc:///p\nclient = tcp://[::1]:65535\n"
		     "[member 2]\npeer = tcp://a.example:1\nclient = tcp://b-2:2\ndata = /other\n"
		     "[cluster]\nname = A-b_c.9\n");
	assert_string_equal(config->cluster_name, "A-b_c.9");
	assert_int_equal(config->n_members, 2);
	assert_int_equal(config->members[0].id, 2); /* ascending, whatever the order in the file */
	assert_string_equal(config->members[0].peer, "tcp://a.example:1");
	assert_string_equal(config->members[0].client, "tcp://b-2:2");
	assert_string_equal(config->members[0].data, "/other");
	assert_int_equal(config->members[1].id, INT64_MAX);
	assert_string_equal(config->members[1].peer, "ipc:///p");
	assert_string_equal(config->members[1].client, "tcp://[::1]:65535");
	assert_string_equal(config->members[1].data, "/d/9223372036854775807");
	assert_int_equal(config->heartbeat_ms, 1);
	assert_int_equal(config->election_timeout_min_ms, 2);
	assert_int_equal(config->clock_drift_percent, 25);
	assert_int_equal(config->election_timeout_max_ms, 3);
	assert_int_equal(config->segment_size, 4 << 20);
	assert_true(config->log_cache_size == UINT64_C(64) << 30);
	assert_int_equal(config->snapshot_log_size, 64 << 10);
	assert_int_equal(config->snapshot_log_percent, 10000);
	assert_int_equal(config->log_level, CONFIG_LOG_DEBUG);
	assert_string_equal(config->bridge_socket, "/s");
	assert_int_equal(config->bridge_socket_mode, 0600);
	assert_int_equal(config->request_timeout_ms, 10);
	assert_int_equal(config->connections_max, 1);
	assert_ptr_equal(config_find_member(config, 2), &config->members[0]);
	assert_null(config_find_member(config, 1));
}

static void test_shipped_sample_is_valid_and_shows_the_defaults(void **state)
{
	struct fixture *fixture = *state;
	static char sample[65536], changed[65536];
	FILE *file = fopen("packaging/raft.conf", "r");

	if (file == NULL)
		skip(); /* not started from the top of the tree */
	size_t len = fread(sample, 1, sizeof(sample) - 1, file);
	fclose(file);
	sample[len] = '\0';
	expect_valid(fixture, sample);
	assert_int_equal(fixture->config.n_members, 5);
	struct config commented = fixture->config;
	/* With every "#key = value" switched on it must read the same. */
	char *out = changed;
	for (const char *in = sample; *in != '\0'; in++) {
		if (*in != '#' || in[1] < 'a' || in[1] > 'z')
			*out++ = *in;
	}
	*out = '\0';
	assert_non_null(strstr(changed, "\nconnections_max = "));
	expect_valid(fixture, changed);
	assert_memory_equal(&commented, &fixture->config, sizeof(commented));
}

static void test_tabs_blanks_crlf_and_comments_are_fine(void **state)
{
	struct fixture *fixture = *state;

	expect_valid(fixture, "# c\r\n\r\n\t[cluster] ; c\r\n \tname\t=\tc\t# c\r\n;c\n"
			      "[member 1]#c\npeer=\"tcp://127.0.0.1:7401\" ; c\nclient = tcp://127.0.0.1:7501 \t\n \n");
	assert_string_equal(fixture->config.cluster_name, "c");
	assert_string_equal(fixture->config.members[0].peer, "tcp://127.0.0.1:7401");
}

static void test_quoted_values_keep_hash_and_semicolon(void **state)
{
	struct fixture *fixture = *state;

	expect_valid(fixture, BASE "data = \"/a #b;c 'd' =\" # e \" f\n");
	assert_string_equal(fixture->config.members[0].data, "/a #b;c 'd' =");
}

static void test_last_line_needs_no_newline(void **state)
{
	struct fixture *fixture = *state;

	expect_valid(fixture, BASE "[raft]\nheartbeat_ms = 9");
	assert_int_equal(fixture->config.heartbeat_ms, 9);
	expect_valid(fixture, BASE "#");
	expect_valid(fixture, BASE "[raft]");
	/* iniparser drops a last line of one character: whatever it is, it must not vanish. */
	expect_only(fixture, BASE "x", 6, "", "neither [section] nor key = value");
	expect_only(fixture, BASE "=", 6, "", "before '=' stands a key");
	expect_only(fixture, BASE "\\", 6, "", "backslash");
}

/* Lines --------------------------------------------------------------------------------------------------- */

static void test_hash_or_semicolon_inside_a_plain_value_is_refused(void **state)
{
	struct fixture *fixture = *state;

	expect_only(fixture, CLUSTER "[member 1]\npeer = tcp://a:1#frag\nclient = tcp://a:2\n", 4,
		    "[member 1] peer:", "double quotes");
	expect_only(fixture, BASE "data = /a;b\n", 6, "[member 1] data:", "double quotes");
	expect_only(fixture, BASE "data = ;b\n", 6, "[member 1] data:", "value is missing");
	expect_only(fixture, BASE "data =\n", 6, "[member 1] data:", "value is missing");
	expect_only(fixture, BASE "data = \"\"\n", 6, "[member 1] data:", "empty");
}

static void test_unbalanced_and_misplaced_quotes_are_refused(void **state)
{
	struct fixture *fixture = *state;

	expect_only(fixture, BASE "data = \"/a\n", 6, "[member 1] data:", "closing double quote");
	expect_only(fixture, BASE "data = \"/a\" b\n", 6, "[member 1] data:", "only a comment may follow");
	expect_only(fixture, BASE "data = /a\"b\"\n", 6, "[member 1] data:", "as a whole");
	expect_only(fixture, BASE "data = '/a'\n", 6, "[member 1] data:", "double quotes");
	expect_only(fixture, BASE "data = \"/a\\\"\n", 6, "[member 1] data:", "backslash");
	expect_only(fixture, BASE "data = /a\\b\n", 6, "[member 1] data:", "backslash");
}

static void test_a_line_ending_in_a_backslash_swallows_nothing(void **state)
{
	struct fixture *fixture = *state;

	/* iniparser would join line 7 to the comment, and connections_max would be a key of [member 1]. */
	expect_only(fixture, BASE "# a comment \\\n[bridge]\nconnections_max = 7\n", 6, "", "backslash");
	expect_only(fixture, BASE "; c\\ \t\r\n[bridge]\n", 6, "", "backslash");
	expect_only(fixture, BASE "data = /a \\\n[bridge]\n", 6, "", "backslash");
}

static void test_nul_and_control_characters_are_refused_with_their_line(void **state)
{
	struct fixture *fixture = *state;
	static const char nul[] = BASE "# a\0b\n[bridge]\n";

	assert_int_equal(read_bytes(fixture, nul, sizeof(nul) - 1), 1);
	expect_mistake(fixture, 6, "", "NUL");
	expect_only(fixture, BASE "data = /a\001b\n", 6, "", "control character 0x01");
	expect_only(fixture, BASE "# a\rb\n", 6, "", "control character 0x0d at byte 4");
	expect_only(fixture, BASE "\033[2J\n", 6, "", "control character 0x1b");
}

static void test_lines_are_limited_to_1000_bytes(void **state)
{
	struct fixture *fixture = *state;
	char text[4096], filler[2001];

	memset(filler, 'x', sizeof(filler) - 1);
	filler[sizeof(filler) - 1] = '\0';
	snprintf(text, sizeof(text), BASE "#%.999s\ndata = /%.992s\n", filler, filler);
	expect_valid(fixture, text);
	assert_int_equal(strlen(fixture->config.members[0].data), 993);
	snprintf(text, sizeof(text), BASE "#%.1000s\n[bridge]\n", filler);
	expect_only(fixture, text, 6, "", "1001 bytes, at most 1000");
	snprintf(text, sizeof(text), BASE "data = /%.1500s", filler);
	expect_only(fixture, text, 6, "", "at most 1000");
}

static void test_byte_order_mark_is_refused_and_the_rest_still_checked(void **state)
{
	struct fixture *fixture = *state;

	expect_only(fixture, "\xef\xbb\xbf" BASE, 1, "", "byte order mark");
	assert_int_equal(read_text(fixture, "\xef\xbb\xbf" BASE "nope = 1\n"), 2);
	expect_mistake(fixture, 6, "[member 1] nope:", "no such key");
}

/* Names --------------------------------------------------------------------------------------------------- */

static void test_a_key_named_like_a_section_neither_crashes_nor_passes(void **state)
{
	struct fixture *fixture = *state;

	/* iniparser's typed getters crash on the name of a section (CVE-2023-33461). */
	expect_only(fixture, BASE "[raft]\nraft = 1\n", 7, "[raft] raft:", "no such key");
	expect_only(fixture, "cluster = 1\n" BASE, 1, "cluster:", "before the first section");
	expect_only(fixture, BASE "[raft:heartbeat_ms]\n[raft]\n", 6, "[raft:heartbeat_ms]:", "no such section");
	expect_only(fixture, BASE "[cluster:name]\n", 6, "[cluster:name]:", "no such section");
}

static void test_unknown_keys_are_refused_and_the_allowed_ones_listed(void **state)
{
	struct fixture *fixture = *state;

	expect_only(fixture, BASE "pier = x\n", 6, "[member 1] pier:", "allowed here are peer, client, data");
	expect_only(fixture, BASE "[bridge]\nheartbeat_ms = 50\n", 7, "[bridge] heartbeat_ms:", "no such key");
	expect_only(fixture, BASE "Data = /a\n", 6, "", "small letters");
}

static void test_unknown_sections_are_refused_once_whatever_they_hold(void **state)
{
	struct fixture *fixture = *state;
	static const char *const names[] = {"raftt", "", " raft", "raft ", "Raft", "a\\b", "[raft", "clust er"};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		char text[512], where[64];
		snprintf(text, sizeof(text), BASE "[%s]\nheartbeat_ms = 50\nx = y\n", names[i]);
		snprintf(where, sizeof(where), "[%s]:", names[i]);
		expect_only(fixture, text, 6, where, "[cluster], [member N], [raft], [bridge]");
	}
	expect_only(fixture, BASE "[raft\n", 6, "", "']' is missing");
	expect_only(fixture, BASE "[raft] x\nheartbeat_ms = 9\n", 6, "", "only a comment may follow ']'");
}

static void test_names_of_member_sections_have_one_spelling(void **state)
{
	struct fixture *fixture = *state;
	static const char *const names[] = {"member",
					    "member x",
					    "member 01",
					    "member 0",
					    "member  1",
					    "member 1 ",
					    "member -1",
					    "member +1",
					    "member 1x",
					    "member1",
					    "members",
					    "member\t1",
					    "member 9223372036854775808"};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		char text[512];
		snprintf(text, sizeof(text), BASE "[%s]\npeer = x\n", names[i]);
		expect_only(fixture, text, 6, "[member", "[member N], one blank, N from 1");
	}
}

static void test_duplicate_keys_and_sections_are_refused_with_both_lines(void **state)
{
	struct fixture *fixture = *state;

	expect_only(fixture, BASE "peer = tcp://b:1\n", 6, "[member 1] peer:", "line 4 already");
	expect_only(fixture, BASE "[cluster]\n", 6, "[cluster]:", "line 1 already");
	/* The keys of the second one are still keys of [member 1], not of what came before. */
	expect_only(fixture, BASE "[raft]\n[member 1]\ndata = /a\n", 7, "[member 1]:", "line 3 already");
	assert_int_equal(read_text(fixture, BASE MEMBER), 3);
	expect_mistake(fixture, 6, "[member 1]:", "line 3 already");
	expect_mistake(fixture, 7, "[member 1] peer:", "line 4 already");
	expect_mistake(fixture, 8, "[member 1] client:", "line 5 already");
}

/* Values -------------------------------------------------------------------------------------------------- */

static void test_numbers_are_whole_in_range_and_nothing_else(void **state)
{
	struct fixture *fixture = *state;
	static const char *const wrong[] = {"12abc",
					    "abc",
					    "-1",
					    "+1",
					    "0",
					    "010",
					    "0x10",
					    "1.5",
					    "1e3",
					    "10001",
					    "1 2",
					    "\" 9\"",
					    "\"9 \"",
					    "4294967297",
					    "18446744073709551616",
					    "99999999999999999999999999"};

	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		char text[512];
		snprintf(text, sizeof(text), BASE "[raft]\nheartbeat_ms = %s\n", wrong[i]);
		expect_only(fixture, text, 7, "[raft] heartbeat_ms:", "allowed is a whole number from 1 to 10000");
	}
}

static void test_every_limit_is_the_documented_one(void **state)
{
	struct fixture *fixture = *state;
	static const struct {
		const char *section, *key, *min, *below, *max, *above;
	} limits[] = {
		{"bridge", "request_timeout_ms", "10", "9", "3600000", "3600001"},
		{"bridge", "connections_max", "1", "0", "1000000", "1000001"},
		{"bridge", "socket_mode", "0", "-1", "0777", "1000"},
		{"raft", "segment_size", "4MiB", "4190208", "1GiB", "1073745920"},
		{"raft", "log_cache_size", "1MiB", "1023KiB", "64GiB", "65GiB"},
		{"raft", "snapshot_log_size", "64KiB", "63KiB", "64GiB", "65GiB"},
		{"raft", "snapshot_log_percent", "10", "9", "10000", "10001"},
		{"raft", "heartbeat_ms", "1", "0", "149", "10001"},
		{"raft", "clock_drift_percent", "1", "0", "25", "26"},
	};

	for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++) {
		const char *good[] = {limits[i].min, limits[i].max}, *bad[] = {limits[i].below, limits[i].above};
		char text[512], where[64];
		snprintf(where, sizeof(where), "[%s] %s:", limits[i].section, limits[i].key);
		for (int k = 0; k < 2; k++) {
			snprintf(text, sizeof(text), BASE "[%s]\n%s = %s\n", limits[i].section, limits[i].key, good[k]);
			expect_valid(fixture, text);
			snprintf(text, sizeof(text), BASE "[%s]\n%s = %s\n", limits[i].section, limits[i].key, bad[k]);
			expect_only(fixture, text, 7, where, "allowed is");
		}
	}
	expect_only(fixture, BASE "[raft]\nsegment_size = 4194305\n", 7, "[raft] segment_size:", "multiple of 4096");
	expect_only(fixture, BASE "[raft]\nsegment_size = 16MB\n", 7, "[raft] segment_size:", "16MiB");
	expect_only(fixture, BASE "[raft]\nlog_level = Info\n", 7, "[raft] log_level:", "warning, notice, info");
	expect_only(fixture, BASE "[bridge]\nsocket_mode = 0668\n", 7, "[bridge] socket_mode:", "octal");
}

static void test_timeouts_must_be_in_order(void **state)
{
	struct fixture *fixture = *state;

	expect_only(fixture, BASE "[raft]\nheartbeat_ms = 150\n", 7,
		    "[raft] heartbeat_ms:", "150 is not less than election_timeout_min_ms, which is 150 by default");
	expect_only(fixture, BASE "[raft]\nelection_timeout_min_ms = 50\n", 7,
		    "[raft] election_timeout_min_ms:", "50 is not more than heartbeat_ms, which is 50 by default");
	expect_only(fixture, BASE "[raft]\nelection_timeout_max_ms = 500\nelection_timeout_min_ms = 500\n", 7,
		    "[raft] election_timeout_max_ms:", "not more than election_timeout_min_ms, which is 500");
	/* A value that was refused is not compared: its default was nobody's wish. */
	expect_only(fixture, BASE "[raft]\nheartbeat_ms = 200\nelection_timeout_min_ms = 25O\n", 8,
		    "[raft] election_timeout_min_ms:", "'25O'");
}

static void test_a_lease_must_outlast_the_heartbeat(void **state)
{
	struct fixture *fixture = *state;

	expect_valid(fixture, BASE "[raft]\nread_mode = lease\n");
	assert_int_equal(fixture->config.read_mode, CONFIG_READ_LEASE);
	expect_valid(fixture, BASE "[raft]\nheartbeat_ms = 121\nread_mode = lease\n"); /* 150 * 90 / 110 is 122 */
	expect_valid(fixture, BASE "[raft]\nheartbeat_ms = 122\nread_mode = index\n");
	expect_only(fixture, BASE "[raft]\nheartbeat_ms = 122\nread_mode = lease\n", 8, "[raft] read_mode:",
		    "lasts 122 ms of the 150 of election_timeout_min_ms, which must be more than "
		    "heartbeat_ms, 122");
	expect_only(fixture, BASE "[raft]\nread_mode = lease\nheartbeat_ms = 90\nclock_drift_percent = 25\n", 7,
		    "[raft] read_mode:", "clock_drift_percent = 25 a lease lasts 90 ms");
	expect_only(fixture, BASE "[raft]\nread_mode = leases\n", 7, "[raft] read_mode:", "index or lease");
}

static void test_cluster_names_are_limited(void **state)
{
	struct fixture *fixture = *state;
	char text[512];

	expect_only(fixture, "[cluster]\nname = a b\n" MEMBER, 2, "[cluster] name:", "1 to 64 letters");
	snprintf(text, sizeof(text), "[cluster]\nname = %064d\n" MEMBER, 0);
	expect_valid(fixture, text);
	snprintf(text, sizeof(text), "[cluster]\nname = %065d\n" MEMBER, 0);
	expect_only(fixture, text, 2, "[cluster] name:", "1 to 64 letters");
}

static void test_socket_paths_fit_the_kernel(void **state)
{
	struct fixture *fixture = *state;
	char text[1024];

	snprintf(text, sizeof(text), BASE "[bridge]\nsocket = /%0106d\n", 0);
	expect_valid(fixture, text);
	snprintf(text, sizeof(text), BASE "[bridge]\nsocket = /%0107d\n", 0);
	expect_only(fixture, text, 7, "[bridge] socket:", "at most 107 bytes");
	expect_only(fixture, BASE "[bridge]\nsocket = run/kv\n", 7, "[bridge] socket:", "absolute");
	snprintf(text, sizeof(text), CLUSTER "[member 1]\nclient = tcp://a:1\npeer = ipc:///%0107d\n", 0);
	expect_only(fixture, text, 5, "[member 1] peer:", "at most 107 bytes");
	expect_only(fixture, BASE "data = var\n", 6, "[member 1] data:", "absolute");
	expect_only(fixture, BASE "[raft]\ndata_root = var/\n", 7, "[raft] data_root:", "absolute");
}

/* The whole ----------------------------------------------------------------------------------------------- */

static void test_empty_file_says_what_is_missing(void **state)
{
	struct fixture *fixture = *state;

	assert_int_equal(read_text(fixture, ""), 2);
	expect_mistake(fixture, 0, "[cluster] name:", "missing");
	expect_mistake(fixture, 0, "", "there is no member");
	assert_int_equal(read_text(fixture, "\n"), 2);
}

static void test_missing_keys_are_reported_at_their_section(void **state)
{
	struct fixture *fixture = *state;

	assert_int_equal(read_text(fixture, "[cluster]\n\n[member 3]\n"), 3);
	expect_mistake(fixture, 1, "[cluster] name:", "missing");
	expect_mistake(fixture, 3, "[member 3] peer:", "missing");
	expect_mistake(fixture, 3, "[member 3] client:", "missing");
}

static void test_all_endpoints_must_differ(void **state)
{
	struct fixture *fixture = *state;

	expect_only(fixture, CLUSTER "[member 1]\npeer = tcp://a:1\nclient = tcp://a:1\n", 5,
		    "[member 1] client:", "already peer of [member 1] in line 4");
	expect_only(fixture, BASE "[member 2]\npeer = tcp://127.0.0.1:7501\nclient = tcp://b:1\n", 7,
		    "[member 2] peer:", "already client of [member 1] in line 5");
	expect_only(fixture, CLUSTER "[member 1]\npeer = tcp://Host:1\nclient = tcp://hOST:1\n", 5,
		    "[member 1] client:", "already");
	expect_only(fixture, CLUSTER "[member 1]\npeer = tcp://[::1]:1\nclient = tcp://[0:0::0:1]:1\n", 5,
		    "[member 1] client:", "already");
	expect_valid(fixture, CLUSTER "[member 1]\npeer = ipc:///A\nclient = ipc:///a\n");
}

static void test_at_most_15_members(void **state)
{
	struct fixture *fixture = *state;
	char text[4096] = CLUSTER;
	size_t len = strlen(text);

	for (unsigned i = 1; i <= 16; i++) {
		if (i == 16)
			expect_valid(fixture, text);
		len += (size_t)snprintf(text + len, sizeof(text) - len,
					"[member %u]\npeer = tcp://a:%u\nclient = tcp://b:%u\n", i, i, i);
	}
	assert_int_equal(fixture->config.n_members, 15);
	expect_only(fixture, text, 48, "[member 16]:", "at most 15");
}

static void test_all_mistakes_are_reported_in_one_run(void **state)
{
	struct fixture *fixture = *state;

	assert_int_equal(read_text(fixture, "x\n[cluster]\nname = ?\n[member 1]\npeer = tcp://a\nclient = b\n[nope]\n"
					    "[raft]\nsegment_size = 1\nfoo = 1\n"),
			 7);
	expect_mistake(fixture, 1, "", "neither");
	expect_mistake(fixture, 3, "[cluster] name:", "'?'");
	expect_mistake(fixture, 5, "[member 1] peer:", "port is missing");
	expect_mistake(fixture, 6, "[member 1] client:", "tcp://host:port");
	expect_mistake(fixture, 7, "[nope]:", "no such section");
	expect_mistake(fixture, 9, "[raft] segment_size:", "4MiB to 1GiB");
	expect_mistake(fixture, 10, "[raft] foo:", "no such key");
}

static void count_only(void *arg, const char *line)
{
	(void)line;
	++*(int *)arg;
}

static void test_a_file_of_rubbish_does_not_flood_the_journal(void **state)
{
	struct fixture *fixture = *state;
	FILE *file = fopen(fixture->path, "w");
	int shown = 0;

	for (int i = 0; i < 20000; i++)
		fprintf(file, "a line\n[section %d]\n", i);
	fclose(file);
	/* Too large is one mistake; cut to the limit it is very many, of which few are shown. */
	assert_int_equal(config_read(fixture->path, &fixture->config, count_only, &shown), 1);
	assert_int_equal(truncate(fixture->path, 200000), 0);
	shown = 0;
	assert_true(config_read(fixture->path, &fixture->config, count_only, &shown) > 1000);
	assert_int_equal(shown, CONFIG_MISTAKES_SHOWN_MAX + 1);
}

static void test_what_is_no_readable_file_is_one_mistake(void **state)
{
	struct fixture *fixture = *state;

	assert_int_equal(config_read("/tmp", &fixture->config, collect, fixture), 1);
	assert_string_equal(fixture->lines[0], "/tmp: cannot read it: Is a directory");
	assert_int_equal(config_read("/nonexistent/raft.conf", &fixture->config, collect, fixture), 1);
	assert_string_equal(fixture->lines[1], "/nonexistent/raft.conf: cannot read it: No such file or directory");
	assert_int_equal(config_read("/dev/zero", &fixture->config, collect, fixture), 1);
	assert_non_null(strstr(fixture->lines[2], "/dev/zero: cannot read it"));
}

/* In a child: who may read everything gives that up first. */
static void test_a_file_without_permission_is_one_mistake(void **state)
{
	struct fixture *fixture = *state;

	expect_valid(fixture, BASE);
	assert_int_equal(chmod(fixture->path, 0), 0);
	pid_t child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		int shown = 0;
		if (geteuid() == 0 && setuid(65534) != 0)
			_exit(9);
		int count = config_read(fixture->path, &fixture->config, count_only, &shown);
		_exit(count == 1 && shown == 1 ? 0 : 1);
	}
	int status;
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
}

static void test_messages_hold_no_raw_control_bytes_and_no_novels(void **state)
{
	struct fixture *fixture = *state;
	char text[2048], quoted[CONFIG_QUOTED_MAX];

	assert_string_equal(config_quote("a\033[2J\n", quoted), "a?[2J?");
	snprintf(text, sizeof(text), BASE "[raft]\nlog_level = %0900d\n", 0);
	expect_only(fixture, text, 7, "[raft] log_level:", "000...' is not allowed; allowed is error");
	snprintf(text, sizeof(text), BASE "%0900d = 1\n", 0);
	expect_only(fixture, text, 6, "[member 1] 000", "...: there is no such key");
}

static void note_name(void *arg, const char *name)
{
	char *names = arg;
	strcat(strcat(names, name), ";");
}

static void test_differences_are_named_key_by_key(void **state)
{
	static const char more[] = "[member 2]\npeer = tcp://h:1\nclient = tcp://h:2\n";
	struct fixture *fixture = *state;
	char names[512] = "";
	struct config before;

	assert_int_equal(read_text(fixture, BASE "[raft]\nlog_level = info\nsegment_size = 4MiB\n"), 0);
	before = fixture->config;
	config_compare(&before, &fixture->config, note_name, names);
	assert_string_equal(names, "");
	char text[1024];
	(void)snprintf(text, sizeof(text), "%s%s", BASE, more);
	strcat(text, "[raft]\nlog_level = debug\nsegment_size = 8MiB\nsnapshot_log_size = 1GiB\ndata_root = /d\n"
		     "[bridge]\nsocket = /s\nsocket_mode = 0600\n");
	assert_int_equal(read_text(fixture, text), 0);
	config_compare(&before, &fixture->config, note_name, names);
	assert_string_equal(names, "[member 1] data;[member 2];[raft] segment_size;[raft] snapshot_log_size;[raft] "
				   "log_level;[bridge] socket;[bridge] socket_mode;");
	names[0] = '\0';
	config_compare(&fixture->config, &before, note_name, names);
	assert_non_null(strstr(names, "[member 2];"));
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(test_smallest_file_gets_documented_defaults),
		CASE(test_every_key_is_read),
		CASE(test_shipped_sample_is_valid_and_shows_the_defaults),
		CASE(test_tabs_blanks_crlf_and_comments_are_fine),
		CASE(test_quoted_values_keep_hash_and_semicolon),
		CASE(test_last_line_needs_no_newline),
		CASE(test_hash_or_semicolon_inside_a_plain_value_is_refused),
		CASE(test_unbalanced_and_misplaced_quotes_are_refused),
		CASE(test_a_line_ending_in_a_backslash_swallows_nothing),
		CASE(test_nul_and_control_characters_are_refused_with_their_line),
		CASE(test_lines_are_limited_to_1000_bytes),
		CASE(test_byte_order_mark_is_refused_and_the_rest_still_checked),
		CASE(test_a_key_named_like_a_section_neither_crashes_nor_passes),
		CASE(test_unknown_keys_are_refused_and_the_allowed_ones_listed),
		CASE(test_unknown_sections_are_refused_once_whatever_they_hold),
		CASE(test_names_of_member_sections_have_one_spelling),
		CASE(test_duplicate_keys_and_sections_are_refused_with_both_lines),
		CASE(test_numbers_are_whole_in_range_and_nothing_else),
		CASE(test_every_limit_is_the_documented_one),
		CASE(test_timeouts_must_be_in_order),
		CASE(test_a_lease_must_outlast_the_heartbeat),
		CASE(test_cluster_names_are_limited),
		CASE(test_socket_paths_fit_the_kernel),
		CASE(test_empty_file_says_what_is_missing),
		CASE(test_missing_keys_are_reported_at_their_section),
		CASE(test_all_endpoints_must_differ),
		CASE(test_at_most_15_members),
		CASE(test_all_mistakes_are_reported_in_one_run),
		CASE(test_a_file_of_rubbish_does_not_flood_the_journal),
		CASE(test_what_is_no_readable_file_is_one_mistake),
		CASE(test_a_file_without_permission_is_one_mistake),
		CASE(test_differences_are_named_key_by_key),
		CASE(test_messages_hold_no_raw_control_bytes_and_no_novels),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
