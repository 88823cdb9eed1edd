/* The line protocol: grammar, quoting, limits. */
#include "bridge/line.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define STRING_MAX 512u

/* Splits a copy, of exactly its size, so that a sanitizer sees every byte read beyond it. */
static int split(const char *text, size_t len, struct line *ret_line, uint8_t **ret_copy)
{
	uint8_t *copy = malloc(len > 0 ? len : 1);
	assert_non_null(copy);
	memcpy(copy, text, len);
	*ret_copy = copy;
	return line_split(copy, len, ret_line);
}

static void expect_words(const char *text, unsigned n, const char *const *words)
{
	struct line line;
	uint8_t *copy;
	assert_int_equal(split(text, strlen(text), &line, &copy), LINE_OK);
	assert_int_equal(line.n_words, n);
	for (unsigned k = 0; k < n; k++) {
		assert_int_equal(line.words[k].size, strlen(words[k]));
		assert_memory_equal(line.words[k].data, words[k], strlen(words[k]));
	}
	free(copy);
}

static void expect_result(const char *text, int result)
{
	struct line line = {.n_words = 99};
	uint8_t *copy;
	assert_int_equal(split(text, strlen(text), &line, &copy), result);
	if (result != LINE_OK)
		assert_int_equal(line.n_words, 99);
	free(copy);
}

static void words_are_separated_by_spaces(void **state)
{
	(void)state;
	expect_words("put hello world", 3, (const char *[]){"put", "hello", "world"});
	expect_words("  put   hello  world  ", 3, (const char *[]){"put", "hello", "world"});
	expect_words("get \xc3\xa4\xff/with:signs'and\\n", 2,
		     (const char *[]){"get", "\xc3\xa4\xff/with:signs'and\\n"});
	expect_words("", 0, NULL);
	expect_words("   ", 0, NULL);
}

static void a_carriage_return_ends_a_line_too(void **state)
{
	(void)state;
	expect_words("get a\r", 2, (const char *[]){"get", "a"});
	expect_words("get \"a\"\r", 2, (const char *[]){"get", "a"});
	expect_words("\r", 0, NULL);
	expect_result("get a\r\r", LINE_CONTROL);
	expect_result("get a\rb", LINE_CONTROL);
}

static void quoted_words_hold_anything(void **state)
{
	(void)state;
	expect_words("put k \"a b\"", 3, (const char *[]){"put", "k", "a b"});
	expect_words("put k \"\"", 3, (const char *[]){"put", "k", ""});
	expect_words("put k \"\\\"\\\\\\n\\r\\t\\x41\\xfF\"", 3, (const char *[]){"put", "k", "\"\\\n\r\tA\xff"});
	expect_words("put k \"long enough for eight at a time \\x21 and on and on\" ", 3,
		     (const char *[]){"put", "k", "long enough for eight at a time ! and on and on"});
	expect_words("get \"tab\there\"", 2, (const char *[]){"get", "tab\there"});
}

static void mistakes_are_told_apart(void **state)
{
	(void)state;
	expect_result("get a\tb", LINE_CONTROL);
	expect_result("get a\x7f", LINE_CONTROL);
	expect_result("get 12345678901234567\x01", LINE_CONTROL);
	expect_result("get a\"b", LINE_QUOTE);
	expect_result("get 12345678\"b", LINE_QUOTE);
	expect_result("get \"a", LINE_UNTERMINATED);
	expect_result("get \"", LINE_UNTERMINATED);
	expect_result("get \"a\\", LINE_UNTERMINATED);
	expect_result("get \"a\\\"", LINE_UNTERMINATED);
	expect_result("get \"a\\q\"", LINE_ESCAPE);
	expect_result("get \"a\\0\"", LINE_ESCAPE);
	expect_result("get \"a\\x4\"", LINE_ESCAPE);
	expect_result("get \"a\\xg1\"", LINE_ESCAPE);
	expect_result("get \"a\"b", LINE_AFTER_QUOTE);
	expect_result("get \"a\"\"b\"", LINE_AFTER_QUOTE);
	expect_result("a b c d e", LINE_OK);
	expect_result("a b c d e f", LINE_WORDS);
	for (int r = LINE_OK; r <= LINE_WORDS; r++)
		assert_true(strlen(line_result_text(r)) > 3);
}

static void a_nul_in_a_line_is_a_control_character(void **state)
{
	struct line line;
	uint8_t *copy;
	(void)state;
	assert_int_equal(split("get a\0b", 7, &line, &copy), LINE_CONTROL);
	free(copy);
}

/* What is written is read back. */
static void expect_round_trip(const uint8_t *data, size_t size)
{
	uint8_t *written = malloc(4 + LINE_QUOTED_SIZE_MAX(size));
	struct line line;
	assert_non_null(written);
	memcpy(written, "get ", 4);
	size_t n = line_write_word(written + 4, data, size);
	assert_int_equal(n, line_written_size(data, size));
	assert_true(n <= LINE_QUOTED_SIZE_MAX(size));
	for (size_t k = 0; k < n; k++)
		assert_true(written[4 + k] >= ' ' && written[4 + k] != 0x7f); /* never a line's end in it */
	assert_int_equal(line_split(written, 4 + n, &line), LINE_OK);
	assert_int_equal(line.n_words, 2);
	assert_int_equal(line.words[1].size, size);
	if (size > 0)
		assert_memory_equal(line.words[1].data, data, size);
	free(written);
}

static void every_byte_survives_quoting(void **state)
{
	uint8_t data[256];
	(void)state;
	for (unsigned k = 0; k < 256; k++)
		data[k] = (uint8_t)k;
	expect_round_trip(data, 256);
	for (unsigned k = 0; k < 256; k++) {
		expect_round_trip(data + k, 1);
		for (unsigned j = 0; j < 256; j++)
			expect_round_trip((const uint8_t[]){(uint8_t)k, (uint8_t)j}, 2);
		for (unsigned at = 0; at < 20; at++) {
			uint8_t padded[20];
			memset(padded, 'x', sizeof padded);
			padded[at] = (uint8_t)k;
			expect_round_trip(padded, sizeof padded);
		}
	}
	expect_round_trip(data, 0);
}

static void random_words_survive_quoting(void **state)
{
	uint8_t data[STRING_MAX];
	unsigned seed = 1;
	(void)state;
	for (unsigned n = 0; n < 20000; n++) {
		size_t size = (size_t)rand_r(&seed) % sizeof data;
		int mask = n % 3 == 0 ? 0xff : n % 3 == 1 ? 0x7f : 0xc3;
		for (size_t k = 0; k < size; k++)
			data[k] = (uint8_t)(rand_r(&seed) & mask);
		expect_round_trip(data, size);
	}
}

static void expect_written(const char *data, size_t size, const char *expected)
{
	uint8_t buf[STRING_MAX];
	size_t n = line_write_word(buf, (const uint8_t *)data, size);
	assert_int_equal(n, strlen(expected));
	assert_memory_equal(buf, expected, n);
}

static void words_are_quoted_only_when_needed(void **state)
{
	(void)state;
	expect_written("plain", 5, "plain");
	expect_written("a\\b", 3, "a\\b");
	expect_written("", 0, "\"\"");
	expect_written("a b", 3, "\"a b\"");
	expect_written("a\"b\\", 4, "\"a\\\"b\\\\\"");
	expect_written("a\nb\r\t\0", 6, "\"a\\nb\\r\\t\\x00\"");
	expect_written("\x7f", 1, "\"\\x7f\"");
	expect_written("z\xc3\xbcrich \xe2\x82\xac \xf0\x9f\x90\xb8", 16,
		       "\"z\xc3\xbcrich \xe2\x82\xac \xf0\x9f\x90\xb8\"");
	expect_written("\xc3\xbc\xe2\x82\xac", 5, "\xc3\xbc\xe2\x82\xac");
}

static void ill_formed_utf8_is_escaped(void **state)
{
	(void)state;
	expect_written("\xff", 1, "\"\\xff\"");
	expect_written("\xc3", 1, "\"\\xc3\"");
	expect_written("\xc0\xaf", 2, "\"\\xc0\\xaf\"");		   /* overlong */
	expect_written("\xe0\x80\xaf", 3, "\"\\xe0\\x80\\xaf\"");	   /* overlong */
	expect_written("\xed\xa0\x80", 3, "\"\\xed\\xa0\\x80\"");	   /* a surrogate */
	expect_written("\xf4\x90\x80\x80", 4, "\"\\xf4\\x90\\x80\\x80\""); /* beyond U+10FFFF */
	expect_written("\xf0\x8f\xbf\xbf", 4, "\"\\xf0\\x8f\\xbf\\xbf\""); /* overlong */
	expect_written("\xc2\x9b", 2, "\"\\xc2\\x9b\"");		   /* a terminal's control sequence */
	expect_written("\xe2\x82", 2, "\"\\xe2\\x82\"");
}

static void numbers_are_read_strictly(void **state)
{
	static const char *const wrong[] = {"",
					    "-1",
					    "+1",
					    "1a",
					    " 1",
					    "0x1",
					    "18446744073709551616",
					    "99999999999999999999",
					    "000000000000000000001"};
	uint64_t value = 7;
	(void)state;
	for (size_t k = 0; k < sizeof wrong / sizeof wrong[0]; k++) {
		struct line_word word = {(const uint8_t *)wrong[k], strlen(wrong[k])};
		assert_false(line_read_u64(&word, &value));
		assert_int_equal(value, 7);
	}
	struct line_word max = {(const uint8_t *)"18446744073709551615", 20};
	assert_true(line_read_u64(&max, &value));
	assert_true(value == UINT64_MAX);
	uint8_t buf[LINE_U64_SIZE_MAX];
	assert_int_equal(line_write_u64(buf, UINT64_MAX), 20);
	assert_memory_equal(buf, "18446744073709551615", 20);
	assert_int_equal(line_write_u64(buf, 0), 1);
	assert_int_equal(buf[0], '0');
}

static int parse(const char *text, struct line_request *ret_request, struct line_problem *ret_problem)
{
	static uint8_t copy[STRING_MAX];
	assert_true(strlen(text) <= sizeof copy);
	memcpy(copy, text, strlen(text));
	return line_parse(copy, strlen(text), ret_request, ret_problem);
}

static void requests_are_understood(void **state)
{
	struct line_request request;
	struct line_problem problem;
	(void)state;
	assert_int_equal(parse("put k v", &request, &problem), LINE_REQUEST_OK);
	assert_int_equal(request.command, LINE_PUT);
	assert_memory_equal(request.key.data, "k", 1);
	assert_memory_equal(request.value.data, "v", 1);
	assert_int_equal(parse("get -s k", &request, &problem), LINE_REQUEST_OK);
	assert_true(request.stale);
	assert_int_equal(parse("get -s", &request, &problem), LINE_REQUEST_OK);
	assert_false(request.stale);
	assert_memory_equal(request.key.data, "-s", 2);
	assert_int_equal(parse("delete k", &request, &problem), LINE_REQUEST_OK);
	assert_int_equal(request.value.size, 0);
	assert_int_equal(parse("cas k 42 \"new value\"", &request, &problem), LINE_REQUEST_OK);
	assert_int_equal(request.expected, 42);
	assert_int_equal(request.value.size, 9);
	assert_int_equal(parse("put k \"\"", &request, &problem), LINE_REQUEST_OK);
	assert_int_equal(request.value.size, 0);
	assert_int_equal(parse("help", &request, &problem), LINE_REQUEST_OK);
	assert_int_equal(parse("ping\r", &request, &problem), LINE_REQUEST_OK);
	assert_int_equal(parse("   ", &request, &problem), LINE_REQUEST_EMPTY);
}

static void wrong_requests_say_what_to_do(void **state)
{
	static const struct {
		const char *text;
		enum line_error error;
		const char *part;
	} cases[] = {
		{"fetch k", LINE_E_UNKNOWN_COMMAND, "help"},	{"PUT k v", LINE_E_UNKNOWN_COMMAND, "lower case"},
		{"put k", LINE_E_BAD_REQUEST, "put KEY VALUE"}, {"put k v w", LINE_E_BAD_REQUEST, "put KEY VALUE"},
		{"get", LINE_E_BAD_REQUEST, "get KEY"},		{"get -t k", LINE_E_BAD_REQUEST, "get -s KEY"},
		{"cas k x v", LINE_E_BAD_REQUEST, "revision"},	{"cas k 1", LINE_E_BAD_REQUEST, "cas KEY REVISION"},
		{"get \"\"", LINE_E_BAD_REQUEST, "empty"},	{"quit now", LINE_E_BAD_REQUEST, "quit"},
		{"get \"a", LINE_E_BAD_REQUEST, "quote"},
	};
	(void)state;
	for (size_t k = 0; k < sizeof cases / sizeof cases[0]; k++) {
		struct line_request request = {.expected = 4711};
		struct line_problem problem;
		assert_int_equal(parse(cases[k].text, &request, &problem), LINE_REQUEST_BAD);
		assert_int_equal(problem.error, cases[k].error);
		assert_non_null(strstr(problem.text, cases[k].part));
		assert_int_equal(request.expected, 4711);
	}
}

/* A line `put KEY VALUE` with so many bytes in each, and every byte written as \xHH if asked for. */
static uint8_t *make_put(size_t key_size, size_t value_size, bool escaped, size_t *ret_len)
{
	size_t sizes[2] = {key_size, value_size};
	uint8_t *text = malloc(16 + 4 * (key_size + value_size));
	assert_non_null(text);
	memcpy(text, "put", 3);
	size_t len = 3;
	for (unsigned w = 0; w < 2; w++) {
		text[len++] = ' ';
		if (escaped)
			text[len++] = '"';
		for (size_t k = 0; k < sizes[w]; k++) {
			memcpy(text + len, escaped ? "\\x41" : "A", escaped ? 4 : 1);
			len += escaped ? 4 : 1;
		}
		if (escaped)
			text[len++] = '"';
	}
	*ret_len = len;
	return text;
}

static void expect_put(size_t key_size, size_t value_size, bool escaped, int result, const char *limit)
{
	struct line_request request;
	struct line_problem problem;
	size_t len;
	uint8_t *text = make_put(key_size, value_size, escaped, &len);
	assert_int_equal(line_parse(text, len, &request, &problem), result);
	if (result == LINE_REQUEST_OK) {
		assert_true(len <= LINE_SIZE_MAX);
		assert_int_equal(request.key.size, key_size);
		assert_int_equal(request.value.size, value_size);
	} else {
		assert_int_equal(problem.error, LINE_E_TOO_BIG);
		assert_non_null(strstr(problem.text, limit));
	}
	free(text);
}

static void limits_are_exact_and_named(void **state)
{
	(void)state;
	for (unsigned escaped = 0; escaped < 2; escaped++) {
		expect_put(1024, 1048576, escaped != 0, LINE_REQUEST_OK, NULL);
		expect_put(1025, 1, escaped != 0, LINE_REQUEST_BAD, "1024");
		expect_put(1, 1048577, escaped != 0, LINE_REQUEST_BAD, "1048576");
	}
}

/* Whatever the bytes are: no crash, and what is understood lies inside the line and keeps the limits. */
static void mutated_lines_do_no_harm(void **state)
{
	static const char *const seeds[] = {"put key \"a \\x41\\\"\\n value\"",
					    "cas k 18446744073709551615 \"x y\"",
					    "get -s \"\\\\\"",
					    "delete \"a b c d\" ",
					    "status",
					    "put \"\" \"\""};
	unsigned seed = 42;
	(void)state;
	for (unsigned n = 0; n < 200000; n++) {
		const char *text = seeds[(unsigned)rand_r(&seed) % (sizeof seeds / sizeof seeds[0])];
		size_t len = (size_t)rand_r(&seed) % (strlen(text) + 1);
		uint8_t *copy = malloc(len + 1);
		assert_non_null(copy);
		memcpy(copy, text, len);
		for (unsigned k = 0; k < n % 4 && len > 0; k++)
			copy[(size_t)rand_r(&seed) % len] = (uint8_t)(rand_r(&seed) >> 7);
		struct line_request request;
		struct line_problem problem;
		copy = realloc(copy, len > 0 ? len : 1);
		if (line_parse(copy, len, &request, &problem) == LINE_REQUEST_OK && request.key.size > 0) {
			assert_true(request.key.data >= copy && request.key.data + request.key.size <= copy + len);
			assert_true(request.value.size == 0 || request.value.data + request.value.size <= copy + len);
		}
		free(copy);
	}
}

static void help_has_a_line_for_each_command_and_ends_with_ok(void **state)
{
	static const char *const names[] = {"put", "get", "delete", "cas", "help", "status", "ping", "quit"};
	const char *help = line_help();
	(void)state;
	assert_string_equal(help + strlen(help) - 4, "\nOK\n");
	for (size_t k = 0; k < sizeof names / sizeof names[0]; k++) {
		char start[32] = "\n# ";
		strcat(start, names[k]);
		assert_true(strstr(help, start) != NULL || strncmp(help, start + 1, strlen(start + 1)) == 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(words_are_separated_by_spaces),
		cmocka_unit_test(a_carriage_return_ends_a_line_too),
		cmocka_unit_test(quoted_words_hold_anything),
		cmocka_unit_test(mistakes_are_told_apart),
		cmocka_unit_test(a_nul_in_a_line_is_a_control_character),
		cmocka_unit_test(every_byte_survives_quoting),
		cmocka_unit_test(random_words_survive_quoting),
		cmocka_unit_test(words_are_quoted_only_when_needed),
		cmocka_unit_test(ill_formed_utf8_is_escaped),
		cmocka_unit_test(numbers_are_read_strictly),
		cmocka_unit_test(requests_are_understood),
		cmocka_unit_test(wrong_requests_say_what_to_do),
		cmocka_unit_test(limits_are_exact_and_named),
		cmocka_unit_test(mutated_lines_do_no_harm),
		cmocka_unit_test(help_has_a_line_for_each_command_and_ends_with_ok),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
