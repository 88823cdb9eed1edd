/*
 * Writes one JSON document; see raftctl_json.h. Errors of the file are the caller's to look for (ferror), once.
 */
#include "raftctl_json.h"

#include <inttypes.h>
#include <string.h>

/* Bytes of the UTF-8 sequence at text, 0 if it is none (overlong forms and surrogates included). */
static unsigned utf8_length(const unsigned char *text)
{
	unsigned char c = text[0];
	if (c < 0x80)
		return 1;
	unsigned n = c >= 0xc2 && c <= 0xdf ? 2 : (c & 0xf0) == 0xe0 ? 3 : c >= 0xf0 && c <= 0xf4 ? 4 : 0;
	for (unsigned k = 1; k < n; k++)
		if ((text[k] & 0xc0) != 0x80)
			return 0; /* also at the end of the text */
	if ((c == 0xe0 && text[1] < 0xa0) || (c == 0xed && text[1] > 0x9f) || (c == 0xf0 && text[1] < 0x90) ||
	    (c == 0xf4 && text[1] > 0x8f))
		return 0;
	return n;
}

static void write_string(FILE *file, const char *string)
{
	const unsigned char *text = (const unsigned char *)string;
	(void)fputc('"', file);
	while (*text != '\0') {
		unsigned n = utf8_length(text);
		if (n == 0)
			(void)fputs("\\ufffd", file);
		else if (*text == '"' || *text == '\\')
			(void)fprintf(file, "\\%c", *text);
		else if (*text < 0x20 || *text == 0x7f)
			(void)fprintf(file, "\\u%04x", *text);
		else
			(void)fwrite(text, 1, n, file);
		text += n == 0 ? 1 : n;
	}
	(void)fputc('"', file);
}

static void begin_element(struct json *json, const char *key)
{
	if (json->comma)
		(void)fputc(',', json->file);
	json->comma = true;
	if (key == NULL)
		return;
	write_string(json->file, key);
	(void)fputc(':', json->file);
}

void json_begin_object(struct json *json, const char *key)
{
	begin_element(json, key);
	(void)fputc('{', json->file);
	json->comma = false;
}

void json_end_object(struct json *json)
{
	(void)fputc('}', json->file);
	json->comma = true;
}

void json_begin_array(struct json *json, const char *key)
{
	begin_element(json, key);
	(void)fputc('[', json->file);
	json->comma = false;
}

void json_end_array(struct json *json)
{
	(void)fputc(']', json->file);
	json->comma = true;
}

void json_u64(struct json *json, const char *key, uint64_t value)
{
	begin_element(json, key);
	(void)fprintf(json->file, "%" PRIu64, value);
}

void json_milli(struct json *json, const char *key, uint64_t thousandths)
{
	begin_element(json, key);
	(void)fprintf(json->file, "%" PRIu64 ".%03u", thousandths / 1000u, (unsigned)(thousandths % 1000u));
}

void json_bool(struct json *json, const char *key, bool value)
{
	begin_element(json, key);
	(void)fputs(value ? "true" : "false", json->file);
}

void json_null(struct json *json, const char *key)
{
	begin_element(json, key);
	(void)fputs("null", json->file);
}

void json_hex(struct json *json, const char *key, uint64_t value)
{
	begin_element(json, key);
	(void)fprintf(json->file, "\"%016" PRIx64 "\"", value);
}

void json_string(struct json *json, const char *key, const char *text)
{
	begin_element(json, key);
	write_string(json->file, text);
}
