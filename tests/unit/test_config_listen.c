/*
 * Where metrics are served: what metrics_listen takes, what it refuses and in which words, and which member gets which
 * value.
 */
#include "daemon/config/parse.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static void expect_refused(const char *text, uint64_t id, const char *words)
{
	struct config_listen listen = {.port = 99};
	const char *why = NULL;

	assert_false(config_parse_listen(text, id, &listen, &why));
	assert_int_equal(listen.port, 99);
	if (strstr(why, words) == NULL)
		fail_msg("'%s' is refused with '%s', not '%s'", text, why, words);
}

static struct config_listen expect_taken(const char *text, uint64_t id)
{
	struct config_listen listen = {.port = 99};
	const char *why = NULL;

	if (!config_parse_listen(text, id, &listen, &why))
		fail_msg("'%s' is refused: %s", text, why);
	return listen;
}

static void test_a_place_is_off_a_path_or_a_loopback_address(void **state)
{
	(void)state;
	struct config_listen listen = expect_taken("off", 1);
	assert_string_equal(listen.path, "");
	assert_string_equal(listen.host, "");
	listen = expect_taken("/run/raft/%i/metrics.sock", 12);
	assert_string_equal(listen.path, "/run/raft/12/metrics.sock");
	assert_string_equal(listen.host, "");
	listen = expect_taken("tcp://127.0.0.1:760%i", 3);
	assert_string_equal(listen.host, "127.0.0.1");
	assert_int_equal(listen.port, 7603);
	assert_string_equal(listen.path, "");
	assert_string_equal(expect_taken("tcp://127.%i.0.9:80", 8).host, "127.8.0.9");
	listen = expect_taken("tcp://[::1]:65535", 1);
	assert_string_equal(listen.host, "::1");
	assert_int_equal(listen.port, 65535);
}

static void test_the_network_has_to_be_asked_for_in_words(void **state)
{
	(void)state;
	static const char *const open[] = {"10.0.0.1", "0.0.0.0", "[::]", "[2001:db8::1]", "128.0.0.1"};
	for (size_t k = 0; k < sizeof open / sizeof open[0]; k++) {
		char text[128];
		(void)snprintf(text, sizeof text, "tcp://%s:7601", open[k]);
		expect_refused(text, 1, "write: open-to-network");
		(void)snprintf(text, sizeof text, "open-to-network tcp://%s:7601", open[k]);
		assert_int_equal(expect_taken(text, 1).port, 7601);
	}
	expect_refused("open-to-network tcp://127.0.0.1:7601", 1, "leave out");
	expect_refused("open-to-network /run/x.sock", 1, "allowed is");
	expect_refused("open-to-network off", 1, "allowed is");
	expect_refused("open-to-networktcp://1.2.3.4:1", 1, "allowed is");
}

static void test_anything_else_is_refused(void **state)
{
	(void)state;
	static const char *const forms[] = {"tcp://localhost:7601",
					    "tcp://127.0.0.1",
					    "tcp://",
					    "tcp://:7601",
					    "tcp://[::1]",
					    "tcp://::1:7601",
					    "tcp://[127.0.0.1]:7601",
					    "tcp://[]:1",
					    "tcp://127.1:7601",
					    "tcp://[:7601",
					    "tcp://[00000000000000000000000000000000000000000000000000001]:1"};
	for (size_t k = 0; k < sizeof forms / sizeof forms[0]; k++)
		expect_refused(forms[k], 1, "numeric host");
	static const char *const ports[] = {"tcp://127.0.0.1:0", "tcp://127.0.0.1:65536",
					    "tcp://127.0.0.1:", "tcp://[::1]:1x"};
	for (size_t k = 0; k < sizeof ports / sizeof ports[0]; k++)
		expect_refused(ports[k], 1, "the port");
	expect_refused("tcp://127.0.0.1:760%i", 10, "the port");
	expect_refused("", 1, "allowed is");
	expect_refused("OFF", 1, "allowed is");
	expect_refused("http://127.0.0.1:1", 1, "allowed is");
	expect_refused("run/x.sock", 1, "allowed is");
	expect_refused("/", 1, "directory");
	expect_refused("/run/", 1, "");
	expect_refused("/run/%n/x", 1, "only 'i'");
	expect_refused("/run/%", 1, "only 'i'");
	expect_refused("/run/%i/x", 0, "there is none here");
	char text[1000];
	memset(text, 'a', sizeof text);
	text[0] = '/';
	text[CONFIG_LISTEN_PATH_MAX] = '\0';
	assert_string_equal(expect_taken(text, 1).path, text);
	text[CONFIG_LISTEN_PATH_MAX] = 'a';
	text[CONFIG_LISTEN_PATH_MAX + 1] = '\0';
	expect_refused(text, 1, "107");
	text[CONFIG_LISTEN_PATH_MAX + 1] = 'a';
	text[sizeof text - 1] = '\0';
	expect_refused(text, 1, "too long");
}

/* The file ------------------------------------------------------------------------------------------------ */

static char last_line[1024];
static int n_lines;

static void keep_line(void *arg, const char *line)
{
	(void)arg;
	(void)snprintf(last_line, sizeof last_line, "%s", line);
	n_lines++;
}

static int read_text(const char *text, struct config *config)
{
	char path[] = "/tmp/raft-test-listen-XXXXXX";
	int fd = mkstemp(path);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	close(fd);
	n_lines = 0;
	int r = config_read(path, config, keep_line, NULL);
	unlink(path);
	return r;
}

#define BASE                                                                                                           \
	"[cluster]\nname = c\n[member 1]\npeer = tcp://h:1\nclient = tcp://h:2\n"                                      \
	"[member 12]\npeer = tcp://h:3\nclient = tcp://h:4\n"

static void test_each_member_gets_the_value_of_all_or_its_own(void **state)
{
	(void)state;
	struct config *config = calloc(1, sizeof *config);

	assert_non_null(config);
	assert_int_equal(read_text(BASE, config), 0);
	assert_string_equal(config->members[0].metrics.path, "");
	assert_string_equal(config->members[0].metrics.host, "");
	assert_int_equal(
		read_text(BASE "[raft]\nmetrics_listen = /run/raft/%i/m\n[bridge]\nmetrics_listen = /b\n", config), 0);
	assert_string_equal(config->members[0].metrics.path, "/run/raft/1/m");
	assert_string_equal(config->members[1].metrics.path, "/run/raft/12/m");
	assert_string_equal(config->bridge_metrics.path, "/b");
	assert_int_equal(
		read_text(BASE "metrics_listen = off\n[raft]\nmetrics_listen = tcp://127.0.0.1:76%i\n", config), 0);
	assert_int_equal(config->members[0].metrics.port, 761);
	assert_string_equal(config->members[1].metrics.host, "");
	free(config);
}

static void test_mistakes_name_the_line_and_the_member(void **state)
{
	(void)state;
	struct config *config = calloc(1, sizeof *config);

	assert_non_null(config);
	assert_int_equal(read_text(BASE "[raft]\nmetrics_listen = tcp://127.0.0.1:765%i\n", config), 1);
	assert_non_null(strstr(last_line, ":10: [raft] metrics_listen: "));
	assert_non_null(strstr(last_line, "for member 12: the port"));
	assert_int_equal(read_text(BASE "metrics_listen = tcp://192.0.2.1:7601\n", config), 1);
	assert_non_null(strstr(last_line, ":9: [member 12] metrics_listen: "));
	assert_non_null(strstr(last_line, "open-to-network tcp://address:port"));
	assert_int_equal(read_text(BASE "[bridge]\nmetrics_listen = /run/%i\n", config), 1);
	assert_non_null(strstr(last_line, "there is none here"));
	free(config);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_place_is_off_a_path_or_a_loopback_address),
		cmocka_unit_test(test_the_network_has_to_be_asked_for_in_words),
		cmocka_unit_test(test_anything_else_is_refused),
		cmocka_unit_test(test_each_member_gets_the_value_of_all_or_its_own),
		cmocka_unit_test(test_mistakes_name_the_line_and_the_member),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
