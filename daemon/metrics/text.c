/* See text.h. */
#include "daemon/metrics/text.h"

#include "daemon/assert.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define LINE_MAX_BYTES 1024u

struct metrics_text metrics_text(char *buf, size_t capacity)
{
	raft_assert(buf != NULL && capacity > 0);
	buf[0] = '\0';
	return (struct metrics_text){.buf = buf, .capacity = capacity};
}

/* A line on its way; one that is too long is left out. */
struct line {
	char bytes[LINE_MAX_BYTES];
	size_t len;
	bool overflow;
};

static void put(struct line *line, char c)
{
	if (line->len < sizeof line->bytes)
		line->bytes[line->len++] = c;
	else
		line->overflow = true;
}

static void put_text(struct line *line, const char *text)
{
	for (; *text != '\0'; text++)
		put(line, *text);
}

/* The format's escapes: backslash and newline everywhere, the quote in values of labels. */
static void put_escaped(struct line *line, const char *text, bool quoted)
{
	for (; *text != '\0'; text++) {
		if (*text == '\n') {
			put_text(line, "\\n");
			continue;
		}
		if (*text == '\\' || (quoted && *text == '"'))
			put(line, '\\');
		put(line, *text);
	}
}

static void put_u64(struct line *line, uint64_t value)
{
	char digits[32];
	(void)snprintf(digits, sizeof digits, "%" PRIu64, value);
	put_text(line, digits);
}

/* Without zeros at the end: 0.000016, 0.5, 8. */
static void put_seconds(struct line *line, uint64_t value_us)
{
	char digits[32];
	int n = snprintf(digits, sizeof digits, "%" PRIu64 ".%06" PRIu64, value_us / 1000000u, value_us % 1000000u);
	raft_assert(n > 7 && (size_t)n < sizeof digits);
	while (digits[n - 1] == '0')
		n--;
	if (digits[n - 1] == '.')
		n--;
	digits[n] = '\0';
	put_text(line, digits);
}

static void end_line(struct metrics_text *text, struct line *line)
{
	put(line, '\n');
	if (line->overflow || line->len >= text->capacity - text->len) {
		text->overflow = true;
		return;
	}
	memcpy(text->buf + text->len, line->bytes, line->len);
	text->len += line->len;
	text->buf[text->len] = '\0';
}

static const char *type_name(enum metrics_type type)
{
	switch (type) {
	case METRICS_GAUGE:
		return "gauge";
	case METRICS_COUNTER:
		return "counter";
	case METRICS_HISTOGRAM:
		return "histogram";
	}
	return "untyped";
}

void metrics_family(struct metrics_text *text, const struct metrics_family *family)
{
	struct line help = {.len = 0};
	struct line type = {.len = 0};

	text->family = family;
	put_text(&help, "# HELP ");
	put_text(&help, family->name);
	put(&help, ' ');
	put_escaped(&help, family->help, false);
	end_line(text, &help);
	put_text(&type, "# TYPE ");
	put_text(&type, family->name);
	put(&type, ' ');
	put_text(&type, type_name(family->type));
	end_line(text, &type);
}

static void put_label(struct line *line, const char *name, const char *value)
{
	put_text(line, name);
	put_text(line, "=\"");
	put_escaped(line, value, true);
	put(line, '"');
}

/* The name, what a histogram adds to it, and the labels. */
static void begin_sample(const struct metrics_text *text, struct line *line, const char *suffix,
			 const struct metrics_labels *labels)
{
	raft_assert(text->family != NULL);
	put_text(line, text->family->name);
	put_text(line, suffix);
	if (labels->name != NULL) {
		put(line, '{');
		put_label(line, labels->name, labels->value);
		if (labels->name_2 != NULL) {
			put(line, ',');
			put_label(line, labels->name_2, labels->value_2);
		}
		put(line, '}');
	}
	put(line, ' ');
}

static void sample(struct metrics_text *text, const char *suffix, struct metrics_labels labels, uint64_t value)
{
	struct line line = {.len = 0};

	begin_sample(text, &line, suffix, &labels);
	put_u64(&line, value);
	end_line(text, &line);
}

void metrics_value(struct metrics_text *text, struct metrics_labels labels, uint64_t value)
{
	sample(text, "", labels, value);
}

static void sample_seconds(struct metrics_text *text, const char *suffix, struct metrics_labels labels,
			   uint64_t value_us)
{
	struct line line = {.len = 0};

	begin_sample(text, &line, suffix, &labels);
	put_seconds(&line, value_us);
	end_line(text, &line);
}

void metrics_seconds(struct metrics_text *text, struct metrics_labels labels, uint64_t value_us)
{
	sample_seconds(text, "", labels, value_us);
}

void metrics_count(struct metrics_histogram *histogram, uint64_t value_us)
{
	uint64_t high = value_us >> METRICS_BUCKET_SHIFT;
	unsigned k = high == 0 ? 0 : 64u - (unsigned)__builtin_clzll(high);

	histogram->buckets[k < METRICS_BUCKETS ? k : METRICS_BUCKETS - 1]++;
	histogram->sum_us += value_us;
}

void metrics_histogram(struct metrics_text *text, const struct metrics_histogram *histogram)
{
	uint64_t count = 0;
	struct line bound = {.len = 0};

	raft_assert(text->family != NULL && text->family->type == METRICS_HISTOGRAM);
	for (unsigned k = 0; k + 1 < METRICS_BUCKETS; k++) {
		bound.len = 0;
		put_seconds(&bound, (uint64_t)1 << (k + METRICS_BUCKET_SHIFT));
		put(&bound, '\0');
		count += histogram->buckets[k];
		sample(text, "_bucket", METRICS_LABEL("le", bound.bytes), count);
	}
	count += histogram->buckets[METRICS_BUCKETS - 1];
	sample(text, "_bucket", METRICS_LABEL("le", "+Inf"), count);
	sample_seconds(text, "_sum", METRICS_NO_LABELS, histogram->sum_us);
	sample(text, "_count", METRICS_NO_LABELS, count);
}

void metrics_single(struct metrics_text *text, const struct metrics_family *family, uint64_t value)
{
	metrics_family(text, family);
	metrics_value(text, METRICS_NO_LABELS, value);
}

void metrics_single_seconds(struct metrics_text *text, const struct metrics_family *family, uint64_t value_us)
{
	metrics_family(text, family);
	metrics_seconds(text, METRICS_NO_LABELS, value_us);
}

void metrics_line(struct metrics_text *text, const char *format, ...)
{
	struct line line = {.len = 0};
	va_list arguments;

	va_start(arguments, format);
	int n = vsnprintf(line.bytes, sizeof line.bytes, format, arguments);
	va_end(arguments);
	line.overflow = n < 0 || (size_t)n >= sizeof line.bytes;
	line.len = line.overflow ? 0 : (size_t)n;
	end_line(text, &line);
}
