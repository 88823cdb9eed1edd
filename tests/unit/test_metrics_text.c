/* Prometheus' text format: escaping, numbers, histograms, what happens at the end of the buffer, and that equal input gives
 * equal bytes. */
#include "daemon/metrics/text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static const struct metrics_family gauge = {"raftkv_things", METRICS_GAUGE, "How many."};
static const struct metrics_family counter = {"raftkv_things_total", METRICS_COUNTER,
					      "Back\\slash, \"quotes\"\nand lines."};
static const struct metrics_family histogram = {"raftkv_wait_seconds", METRICS_HISTOGRAM, "How long."};

static void test_families_and_samples(void **state)
{
	(void)state;
	char buf[4096];
	struct metrics_text text = metrics_text(buf, sizeof buf);

	metrics_family(&text, &gauge);
	metrics_value(&text, METRICS_LABELS("peer", "2", "reason", "full"), 7);
	metrics_value(&text, METRICS_NO_LABELS, UINT64_MAX);
	metrics_single(&text, &counter, 0);
	assert_false(text.overflow);
	assert_int_equal(text.len, strlen(buf));
	assert_string_equal(buf, "# HELP raftkv_things How many.\n"
				 "# TYPE raftkv_things gauge\n"
				 "raftkv_things{peer=\"2\",reason=\"full\"} 7\n"
				 "raftkv_things 18446744073709551615\n"
				 "# HELP raftkv_things_total Back\\\\slash, \"quotes\"\\nand lines.\n"
				 "# TYPE raftkv_things_total counter\n"
				 "raftkv_things_total 0\n");
}

static void test_values_of_labels_are_escaped(void **state)
{
	(void)state;
	char buf[512];
	struct metrics_text text = metrics_text(buf, sizeof buf);

	text.family = &gauge;
	metrics_value(&text, METRICS_LABEL("name", "a\\b\"c\nd{}= é"), 1);
	assert_string_equal(buf, "raftkv_things{name=\"a\\\\b\\\"c\\nd{}= é\"} 1\n");
}

static void test_seconds_are_exact_and_short(void **state)
{
	(void)state;
	static const struct {
		uint64_t us;
		const char *written;
	} cases[] = {{0, "0"},	     {1, "0.000001"},  {16, "0.000016"},      {500000, "0.5"},
		     {1000000, "1"}, {10000000, "10"}, {8388608, "8.388608"}, {UINT64_MAX, "18446744073709.551615"}};
	for (size_t k = 0; k < sizeof cases / sizeof cases[0]; k++) {
		char buf[128];
		char wanted[128];
		struct metrics_text text = metrics_text(buf, sizeof buf);
		text.family = &gauge;
		metrics_seconds(&text, METRICS_NO_LABELS, cases[k].us);
		(void)snprintf(wanted, sizeof wanted, "raftkv_things %s\n", cases[k].written);
		assert_string_equal(buf, wanted);
	}
}

static void test_a_histogram_is_cumulative_and_ends_at_infinity(void **state)
{
	(void)state;
	char buf[4096];
	struct metrics_text text = metrics_text(buf, sizeof buf);
	struct metrics_histogram counts = {.sum_us = 0};

	metrics_count(&counts, 0);
	metrics_count(&counts, 15);
	metrics_count(&counts, 16);
	metrics_count(&counts, 31);
	metrics_count(&counts, 4194303);
	metrics_count(&counts, 4194304);
	metrics_count(&counts, UINT64_MAX / 2);
	assert_int_equal(counts.buckets[0], 2);
	assert_int_equal(counts.buckets[1], 2);
	assert_int_equal(counts.buckets[18], 1);
	assert_int_equal(counts.buckets[19], 2);
	counts.sum_us = 2500000;
	metrics_family(&text, &histogram);
	metrics_histogram(&text, &counts);
	assert_non_null(strstr(buf, "raftkv_wait_seconds_bucket{le=\"0.000016\"} 2\n"
				    "raftkv_wait_seconds_bucket{le=\"0.000032\"} 4\n"));
	assert_non_null(strstr(buf, "raftkv_wait_seconds_bucket{le=\"4.194304\"} 5\n"
				    "raftkv_wait_seconds_bucket{le=\"+Inf\"} 7\n"
				    "raftkv_wait_seconds_sum 2.5\n"
				    "raftkv_wait_seconds_count 7\n"));
}

static void test_what_does_not_fit_is_left_out_as_a_line(void **state)
{
	(void)state;
	char whole[256];
	struct metrics_text all = metrics_text(whole, sizeof whole);

	metrics_single(&all, &gauge, 12345);
	assert_false(all.overflow);
	for (size_t capacity = 1; capacity <= all.len + 1; capacity++) {
		char buf[256];
		memset(buf, 'x', sizeof buf);
		struct metrics_text text = metrics_text(buf, capacity);
		metrics_single(&text, &gauge, 12345);
		assert_int_equal(text.overflow, capacity <= all.len);
		assert_true(text.len < capacity);
		assert_int_equal(buf[text.len], '\0');
		assert_int_equal(buf[capacity], 'x');
		assert_memory_equal(buf, whole, text.len > 0 && capacity > all.len ? text.len : 0);
		assert_true(text.len == 0 || buf[text.len - 1] == '\n');
	}
}

static void test_a_line_has_a_limit(void **state)
{
	(void)state;
	char buf[8192];
	char value[2000];
	struct metrics_text text = metrics_text(buf, sizeof buf);

	memset(value, 'v', sizeof value);
	value[sizeof value - 1] = '\0';
	text.family = &gauge;
	metrics_value(&text, METRICS_LABEL("name", value), 1);
	assert_true(text.overflow);
	assert_string_equal(buf, "");
	text.overflow = false;
	metrics_line(&text, "%s", value);
	assert_true(text.overflow);
	assert_string_equal(buf, "");
	metrics_line(&text, "%s %d", "short", 1);
	assert_string_equal(buf, "short 1\n");
}

static void write_some(struct metrics_text *text)
{
	struct metrics_histogram counts = {.sum_us = 77};
	metrics_count(&counts, 12);
	metrics_single(text, &gauge, 5);
	metrics_family(text, &histogram);
	metrics_histogram(text, &counts);
	metrics_single_seconds(text, &gauge, 1234567);
}

static void test_the_same_state_gives_the_same_bytes(void **state)
{
	(void)state;
	char a[4096];
	char b[4096];
	struct metrics_text first = metrics_text(a, sizeof a);
	struct metrics_text second = metrics_text(b, sizeof b);

	memset(b, 0xff, sizeof b);
	write_some(&first);
	write_some(&second);
	assert_string_equal(a, b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_families_and_samples),
		cmocka_unit_test(test_values_of_labels_are_escaped),
		cmocka_unit_test(test_seconds_are_exact_and_short),
		cmocka_unit_test(test_a_histogram_is_cumulative_and_ends_at_infinity),
		cmocka_unit_test(test_what_does_not_fit_is_left_out_as_a_line),
		cmocka_unit_test(test_a_line_has_a_limit),
		cmocka_unit_test(test_the_same_state_gives_the_same_bytes),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
