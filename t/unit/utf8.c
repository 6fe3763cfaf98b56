#include "tap.h"

#include "base/utf8.h"

static bool
valid(const char *s)
{
	return utf8_valid(s, strlen(s));
}

static void
trims(const char *s, const char *want, const char *name)
{
	char	 got[64];
	size_t	 n = strlen(s);

	utf8_trim(&s, &n);
	memcpy(got, s, n);
	got[n] = '\0';
	is_text(got, want, name);
}

int
main(void)
{
	const char	*s = "aé€😀", *at = s;
	const char	*end = s + strlen(s);
	char		 bytes[4], again[16] = "";

	ok(valid("") && valid("plain") && valid(s), "valid text");
	ok(valid("\xf4\x8f\xbf\xbf") && valid("\xed\x9f\xbf") && valid("\xee\x80\x80"), "the last ones");
	ok(!valid("\xc0\x80") && !valid("\xc1\xbf") && !valid("\xe0\x9f\xbf") &&
	    !valid("\xf0\x8f\xbf\xbf"), "overlong forms");
	ok(!valid("\xed\xa0\x80") && !valid("\xed\xbf\xbf"), "surrogates");
	ok(!valid("\xf4\x90\x80\x80") && !valid("\xf5\x80\x80\x80") && !valid("\xff"), "above U+10FFFF");
	ok(!valid("\x80") && !valid("a\xc3") && !valid("\xe2\x82") && !valid("\xc3(") &&
	    !valid("\xf0\x9f\x98"), "broken sequences");

	ok(utf8_length(s, strlen(s)) == 4, "four code points");
	ok(utf8_whole(s, 10) == 10 && utf8_whole(s, 9) == 6 && utf8_whole(s, 7) == 6 &&
	    utf8_whole(s, 5) == 3 && utf8_whole(s, 2) == 1 && utf8_whole(s, 0) == 0, "whole characters");

	while (at < end)
		strncat(again, bytes, utf8_write(bytes, utf8_next(&at, end)));
	is_text(again, s, "read and written");
	ok(utf8_write(bytes, 0x7ff) == 2 && memcmp(bytes, "\xdf\xbf", 2) == 0 &&
	    utf8_write(bytes, 0x800) == 3 && memcmp(bytes, "\xe0\xa0\x80", 3) == 0 &&
	    utf8_write(bytes, 0xffff) == 3 && memcmp(bytes, "\xef\xbf\xbf", 3) == 0 &&
	    utf8_write(bytes, 0x10ffff) == 4 && memcmp(bytes, "\xf4\x8f\xbf\xbf", 4) == 0, "the edges of each length");
	at = s;
	ok(utf8_next(&at, end) == 'a' && utf8_next(&at, end) == 0xe9 && utf8_next(&at, end) == 0x20ac &&
	    utf8_next(&at, end) == 0x1f600 && at == end, "code points one by one");

	trims("", "", "nothing to trim");
	trims(" \t\r\n\v\f a b \n", "a b", "ASCII space");
	trims("\xc2\xa0\xe2\x80\x83\xe3\x80\x80x\xe2\x80\xa8\xc2\x85\xe1\x9a\x80", "x", "Unicode space");
	trims("\xe2\x80\xaf\xe2\x81\x9f\xe2\x80\xa9\xe2\x80\x8a", "", "nothing but space");
	trims("\xe2\x80\x8bzero\xe2\x80\x8b", "\xe2\x80\x8bzero\xe2\x80\x8b", "U+200B is no white space");
	trims(" é ", "é", "a character at the end stays whole");
	return done_testing();
}
