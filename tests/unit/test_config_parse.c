/*
 * The parsers of single values of raft.conf: numbers, sizes, endpoints.
 */
#include "daemon/config/config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static void test_parse_u64_takes_the_whole_text_or_nothing(void **state)
{
	uint64_t value = 42;

	(void)state;
	assert_true(config_parse_u64("0", 0, 0, &value) && value == 0);
	assert_true(config_parse_u64("18446744073709551615", 0, UINT64_MAX, &value) && value == UINT64_MAX);
	value = 42;
	assert_false(config_parse_u64("18446744073709551616", 0, UINT64_MAX, &value));
	assert_false(config_parse_u64("184467440737095516150", 0, UINT64_MAX, &value));
	assert_false(config_parse_u64("", 0, UINT64_MAX, &value));
	assert_false(config_parse_u64(" 1", 0, UINT64_MAX, &value));
	assert_false(config_parse_u64("1 ", 0, UINT64_MAX, &value));
	assert_false(config_parse_u64("00", 0, UINT64_MAX, &value));
	assert_false(config_parse_u64("4", 5, 6, &value));
	assert_false(config_parse_u64("7", 5, 6, &value));
	assert_int_equal(value, 42);
}

static void test_parse_size_knows_binary_units_only(void **state)
{
	uint64_t value = 42;

	(void)state;
	assert_true(config_parse_size("4096", 0, UINT64_MAX, &value) && value == 4096);
	assert_true(config_parse_size("16KiB", 0, UINT64_MAX, &value) && value == 16384);
	assert_true(config_parse_size("4MiB", 0, UINT64_MAX, &value) && value == 4194304);
	assert_true(config_parse_size("17179869183GiB", 0, UINT64_MAX, &value) && value == UINT64_MAX - (1 << 30) + 1);
	value = 42;
	static const char *const wrong[] = {"17179869184GiB", "4 MiB", "4M", "4MB",   "4mib",
					    "4MiBx",	      "MiB",   "",   "-4KiB", "1TiB"};
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		assert_false(config_parse_size(wrong[i], 0, UINT64_MAX, &value));
	assert_int_equal(value, 42);
}

static void test_parse_endpoint(void **state)
{
	static const char *const right[] = {"tcp://127.0.0.1:7401",  "tcp://localhost:1", "tcp://[::1]:65535",
					    "tcp://[fe80::1]:80",    "tcp://a-b_c.d:2",	  "tcp://1a.example:3",
					    "ipc:///run/raft/1/peer"};
	static const struct {
		const char *text, *why;
	} wrong[] = {
		{"", "tcp://host:port"},
		{"127.0.0.1:7401", "tcp://host:port"},
		{"TCP://a:1", "tcp://host:port"},
		{"udp://a:1", "tcp://host:port"},
		{"tcp://", "port is missing"},
		{"tcp://:1", "host is missing"},
		{"tcp://a", "port is missing"},
		{"tcp://a:", "port must be"},
		{"tcp://a:0", "port must be"},
		{"tcp://a:65536", "port must be"},
		{"tcp://a:1x", "port must be"},
		{"tcp://a:01", "port must be"},
		{"tcp://a:*", "port must be"},
		{"tcp://*:1", "others can connect"},
		{"tcp://0.0.0.0:1", "others can connect"},
		{"tcp://[::]:1", "others can connect"},
		{"tcp://::1:7401", "brackets"},
		{"tcp://[::1]", "tcp://[address]:port"},
		{"tcp://[::1:1", "tcp://[address]:port"},
		{"tcp://[]:1", "not an IPv6 address"},
		{"tcp://[1.2.3.4]:1", "not an IPv6 address"},
		{"tcp://[fe80::1%eth0]:1", "not an IPv6 address"},
		{"tcp://256.0.0.1:1", "not an IPv4 address"},
		{"tcp://127.1:1", "not an IPv4 address"},
		{"tcp://12:1", "not an IPv4 address"},
		{"tcp://a b:1", "must be a name"},
		{"tcp://a/b:1", "must be a name"},
		{"tcp://eth0;a:1", "must be a name"},
		{"tcp://-a:1", "begin with '-'"},
		{"tcp://a-.b:1", "end in '-'"},
		{"tcp://a..b:1", "empty part"},
		{"tcp://.a:1", "empty part"},
		{"tcp://a.:1", "end in"},
		{"ipc://run/x", "absolute path"},
		{"ipc://@abstract", "absolute path"},
		{"ipc://*", "absolute path"},
		{"ipc:///", "directory"},
		{"ipc:///a/", "end in '/'"},
		{"ipc:///a\nb", "control characters"},
	};
	const char *why = NULL;
	char text[512];

	(void)state;
	for (size_t i = 0; i < sizeof(right) / sizeof(right[0]); i++) {
		if (!config_parse_endpoint(right[i], &why))
			fail_msg("%s: %s", right[i], why);
	}
	assert_null(why);
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		why = NULL;
		if (config_parse_endpoint(wrong[i].text, &why) || strstr(why, wrong[i].why) == NULL)
			fail_msg("'%s': %s", wrong[i].text, why != NULL ? why : "accepted");
	}
	snprintf(text, sizeof(text), "ipc:///%0106d", 0);
	assert_true(config_parse_endpoint(text, &why));
	snprintf(text, sizeof(text), "ipc:///%0107d", 0);
	assert_false(config_parse_endpoint(text, &why));
	snprintf(text, sizeof(text), "tcp://%0300d:1", 0);
	assert_false(config_parse_endpoint(text, &why));
	snprintf(text, sizeof(text), "tcp://a%063d:1", 0);
	assert_false(config_parse_endpoint(text, &why));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_parse_u64_takes_the_whole_text_or_nothing),
		cmocka_unit_test(test_parse_size_knows_binary_units_only),
		cmocka_unit_test(test_parse_endpoint),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
