/*
 * See scan.h. Lines are (bytes, length) until they are accepted: a NUL in the file is a bad character like any other.
 */
#include "daemon/config/scan.h"

#include "daemon/assert.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct span {
	const char *at;
	size_t len;
};

/* The scan in progress. Every buffer is allocated once, large enough for the worst file of this size. */
struct scanner {
	struct config_mistakes *mistakes;
	struct scan scan;
	size_t items_max;
	size_t strings_len;
	size_t strings_max;
	const char *section;
	unsigned line;
};

static bool is_space(char c)
{
	return c == ' ' || c == '\t';
}

static struct span strip(struct span s)
{
	while (s.len > 0 && is_space(s.at[0])) {
		s.at++;
		s.len--;
	}
	while (s.len > 0 && is_space(s.at[s.len - 1]))
		s.len--;
	return s;
}

/* Nothing but blanks and a comment. */
static bool is_comment_or_blank(struct span s)
{
	s = strip(s);
	return s.len == 0 || s.at[0] == '#' || s.at[0] == ';';
}

static const char *keep_string(struct scanner *scanner, struct span s)
{
	char *kept = scanner->scan.strings + scanner->strings_len;

	raft_assert(s.len < scanner->strings_max - scanner->strings_len);
	memcpy(kept, s.at, s.len);
	kept[s.len] = '\0';
	scanner->strings_len += s.len + 1;
	return kept;
}

static void keep_item(struct scanner *scanner, const char *key, const char *value)
{
	raft_assert(scanner->scan.n_items < scanner->items_max);
	raft_assert(key != NULL || value == NULL);
	scanner->scan.items[scanner->scan.n_items++] = (struct scan_item){.line = scanner->line,
									  .section = scanner->section,
									  .key = key,
									  .value = value,
									  .dropped = key != NULL && value == NULL};
}

static void bad_line(struct scanner *scanner, const char *what)
{
	config_mistake(scanner->mistakes, scanner->line, NULL, NULL, "%s", what);
}

static void scan_section(struct scanner *scanner, struct span line)
{
	const char *close = memchr(line.at, ']', line.len);

	if (close == NULL) {
		bad_line(scanner, "']' is missing: a section is written [name]");
		return;
	}
	struct span name = {line.at + 1, (size_t)(close - line.at) - 1};
	struct span rest = {close + 1, line.len - name.len - 2};
	/* A broken name still opens a section: its keys must not count as keys of the section before. */
	scanner->section = keep_string(scanner, name);
	if (!is_comment_or_blank(rest))
		bad_line(scanner, "only a comment may follow ']' in the line of a section");
	keep_item(scanner, NULL, NULL);
}

/* The end of an unquoted value: where a comment begins. NULL and a mistake when the value is ambiguous. */
static const char *end_of_plain(struct span s, const char **ret_why)
{
	for (size_t i = 0; i < s.len; i++) {
		char c = s.at[i];
		if ((c == ';' || c == '#') && is_space(s.at[i - 1]))
			return s.at + i;
		if (c == ';' || c == '#') {
			*ret_why = "a value with ';' or '#' stands in double quotes; a comment has a space before it";
			return NULL;
		}
		if (c == '"' || c == '\'') {
			*ret_why = "a value with a quote in it stands in double quotes as a whole";
			return NULL;
		}
	}
	return s.at + s.len;
}

/* Finds the value in what follows '='. Returns NULL, or what is wrong. */
static const char *find_value(struct span s, struct span *ret_value)
{
	const char *why = NULL;

	s = strip(s);
	if (s.len == 0 || s.at[0] == '#' || s.at[0] == ';')
		return "the value is missing: key = value";
	if (s.at[0] == '\'')
		return "quotes around a value are double quotes";
	if (s.at[0] != '"') {
		const char *end = end_of_plain(s, &why);
		if (end == NULL)
			return why;
		*ret_value = strip((struct span){s.at, (size_t)(end - s.at)});
	} else {
		const char *close = memchr(s.at + 1, '"', s.len - 1);
		if (close == NULL)
			return "the closing double quote is missing";
		*ret_value = (struct span){s.at + 1, (size_t)(close - s.at) - 1};
		if (ret_value->len == 0)
			return "the value is empty: leave the line out to get the default";
		if (!is_comment_or_blank((struct span){close + 1, s.len - ret_value->len - 2}))
			return "only a comment may follow the closing double quote";
	}
	/* Versions of iniparser disagree about escapes; no value needs one. */
	return memchr(ret_value->at, '\\', ret_value->len) != NULL
		       ? "a value must not hold a backslash: there are no escapes in this file"
		       : NULL;
}

static bool is_key_name(struct span key)
{
	for (size_t i = 0; i < key.len; i++) {
		char c = key.at[i];
		if (!(c >= 'a' && c <= 'z') && !(c >= '0' && c <= '9') && c != '_')
			return false;
	}
	return key.len > 0;
}

static void scan_key(struct scanner *scanner, struct span line)
{
	const char *equals = memchr(line.at, '=', line.len);
	struct span value = {NULL, 0};

	if (equals == NULL) {
		bad_line(scanner,
			 "this is neither [section] nor key = value nor a comment that begins with '#' or ';'");
		return;
	}
	struct span key = strip((struct span){line.at, (size_t)(equals - line.at)});
	if (!is_key_name(key)) {
		bad_line(scanner, "before '=' stands a key: small letters, digits and '_'");
		return;
	}
	const char *name = keep_string(scanner, key);
	const char *why = find_value((struct span){equals + 1, line.len - (size_t)(equals - line.at) - 1}, &value);
	if (why != NULL) {
		char quoted[CONFIG_QUOTED_MAX];
		const char *section = scanner->section != NULL ? config_quote(scanner->section, quoted) : NULL;
		config_mistake(scanner->mistakes, scanner->line, section, name, "%s", why);
		/* The key was given: without an item it would be reported as missing, too. */
		keep_item(scanner, name, NULL);
		return;
	}
	raft_assert(value.len > 0);
	keep_item(scanner, name, keep_string(scanner, value));
}

/* Characters that no line may hold, comments included. */
static bool check_characters(struct scanner *scanner, struct span line)
{
	if (line.len > CONFIG_LINE_MAX) {
		config_mistake(scanner->mistakes, scanner->line, NULL, NULL,
			       "the line has %zu bytes, at most %u are allowed", line.len, CONFIG_LINE_MAX);
		return false;
	}
	if (memchr(line.at, '\0', line.len) != NULL) {
		bad_line(scanner, "the line holds a NUL byte: is this a text file in UTF-8?");
		return false;
	}
	for (size_t i = 0; i < line.len; i++) {
		unsigned char c = (unsigned char)line.at[i];
		if ((c < 0x20 && c != '\t') || c == 0x7f) {
			config_mistake(scanner->mistakes, scanner->line, NULL, NULL,
				       "the line holds the control character 0x%02x at byte %zu", c, i + 1);
			return false;
		}
	}
	return true;
}

static void scan_line(struct scanner *scanner, struct span line)
{
	if (line.len > 0 && line.at[line.len - 1] == '\r')
		line.len--;
	if (!check_characters(scanner, line))
		return;
	line = strip(line);
	if (line.len == 0)
		return;
	/* iniparser would join the next line to this one, even to a comment. */
	if (line.at[line.len - 1] == '\\') {
		bad_line(scanner, "the line ends in a backslash: lines cannot be continued, not even comments");
		return;
	}
	if (is_comment_or_blank(line))
		return;
	if (line.at[0] == '[')
		scan_section(scanner, line);
	else
		scan_key(scanner, line);
}

static int scanner_init(struct scanner *scanner, struct config_mistakes *mistakes, size_t len)
{
	size_t lines_max = len + 1;

	raft_assert(len <= CONFIG_FILE_SIZE_MAX);
	*scanner = (struct scanner){.mistakes = mistakes, .items_max = lines_max / 2 + 1};
	/* A line of n bytes keeps less than n bytes in at most two strings with a NUL each, and n is at least 2. */
	scanner->strings_max = 2 * lines_max;
	scanner->scan.items = calloc(scanner->items_max, sizeof(*scanner->scan.items));
	scanner->scan.strings = malloc(scanner->strings_max);
	if (scanner->scan.items == NULL || scanner->scan.strings == NULL) {
		scan_fini(&scanner->scan);
		config_mistake(mistakes, 0, NULL, NULL, "not enough memory to read it");
		return -1;
	}
	return 0;
}

int scan_bytes(struct config_mistakes *mistakes, const char *bytes, size_t len, struct scan *ret_scan)
{
	static const char mark[] = "\xef\xbb\xbf";
	struct scanner scanner;
	size_t at = 0;

	raft_assert(mistakes != NULL && ret_scan != NULL);
	raft_assert(bytes != NULL || len == 0);
	if (scanner_init(&scanner, mistakes, len) != 0)
		return -1;
	if (len >= 3 && memcmp(bytes, mark, 3) == 0) {
		config_mistake(mistakes, 1, NULL, NULL,
			       "the file begins with a byte order mark: save it as plain UTF-8");
		at = 3;
	}
	while (at < len) {
		const char *newline = memchr(bytes + at, '\n', len - at);
		size_t line_len = newline != NULL ? (size_t)(newline - bytes) - at : len - at;
		scanner.line++;
		scan_line(&scanner, (struct span){bytes + at, line_len});
		at += line_len + (newline != NULL ? 1 : 0);
	}
	*ret_scan = scanner.scan;
	return 0;
}

char *scan_text(const struct scan *scan, size_t *ret_len)
{
	char *text = NULL;
	size_t len = 0;

	raft_assert(scan != NULL && ret_len != NULL);
	FILE *stream = open_memstream(&text, &len);
	if (stream == NULL)
		return NULL;
	for (size_t i = 0; i < scan->n_items; i++) {
		const struct scan_item *item = &scan->items[i];
		raft_assert(item->dropped || item->key == NULL || item->value != NULL);
		if (item->dropped)
			continue;
		/* In double quotes iniparser takes a value as it is; the scan made sure that it holds none itself. */
		if (item->key == NULL)
			(void)fprintf(stream, "[%s]\n", item->section); /* errors show when it is closed */
		else
			(void)fprintf(stream, "%s = \"%s\"\n", item->key, item->value);
	}
	bool failed = ferror(stream) != 0;
	if (fclose(stream) != 0 || failed) {
		free(text);
		return NULL;
	}
	*ret_len = len;
	return text;
}

void scan_fini(struct scan *scan)
{
	raft_assert(scan != NULL);
	free(scan->items);
	free(scan->strings);
	*scan = (struct scan){0};
}

/* Reads fd up to max + 1 bytes into buf. The count or negative errno. */
static ssize_t read_all(int fd, char *buf, size_t max)
{
	size_t len = 0;

	while (len <= max) {
		ssize_t n = read(fd, buf + len, max + 1 - len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		len += (size_t)n;
	}
	raft_assert(len <= max + 1);
	return (ssize_t)len;
}

/* A descriptor of something that can hold a configuration, or negative errno. */
static int open_file(const char *path)
{
	struct stat st;
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);

	if (fd < 0)
		return -errno;
	int error = fstat(fd, &st) != 0				  ? errno
		    : S_ISDIR(st.st_mode)			  ? EISDIR
		    : S_ISREG(st.st_mode) || S_ISFIFO(st.st_mode) ? 0
								  : ENOTSUP;
	if (error != 0) {
		(void)close(fd); /* nothing was written through it */
		return -error;
	}
	return fd;
}

int scan_file(struct config_mistakes *mistakes, struct scan *ret_scan)
{
	int result = -1;
	char *buf = NULL;

	raft_assert(mistakes != NULL && mistakes->path != NULL);
	int fd = open_file(mistakes->path);
	if (fd < 0) {
		config_mistake(mistakes, 0, NULL, NULL, "cannot read it: %s", strerror(-fd));
		return -1;
	}
	buf = malloc(CONFIG_FILE_SIZE_MAX + 1);
	ssize_t len = buf != NULL ? read_all(fd, buf, CONFIG_FILE_SIZE_MAX) : -ENOMEM;
	if (len < 0)
		config_mistake(mistakes, 0, NULL, NULL, "cannot read it: %s", strerror((int)-len));
	else if ((size_t)len > CONFIG_FILE_SIZE_MAX)
		config_mistake(mistakes, 0, NULL, NULL, "the file is larger than %zu bytes", CONFIG_FILE_SIZE_MAX);
	else
		result = scan_bytes(mistakes, buf, (size_t)len, ret_scan);
	free(buf);
	(void)close(fd); /* nothing was written through it */
	return result;
}
