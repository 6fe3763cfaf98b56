/* HMAC: the vectors of RFC 4231, again and again with one key. */
#include "tap.h"

#include "base/mac.h"

static const char *
hex(const unsigned char *p, size_t n)
{
	static char	 out[2 * MAC_MAX + 1];

	for (size_t i = 0; i < n; i++)
		snprintf(out + 2 * i, 3, "%02x", p[i]);
	return out;
}

static void
signs(const char *digest, const char *want)
{
	struct mac	*m = mac_open(digest, "Jefe", 4);
	const char	*text = "what do ya want for nothing?";
	unsigned char	 out[MAC_MAX];

	ok(m != NULL, "%s", digest);
	is_text(hex(out, mac_sign(m, text, strlen(text), out)), want, "... section 4.3");
	(void)mac_sign(m, "something else", 14, out);
	is_text(hex(out, mac_sign(m, text, strlen(text), out)), want, "... the same after another text");
	mac_close(&m);
	ok(m == NULL, "... closed");
}

int
main(void)
{
	struct mac	*none = NULL;

	signs("SHA256", "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
	signs("SHA384", "af45d2e376484031617f78d2b58a6b1b9c7ef464f5a01b47e42ec3736322445e"
	    "8e2240ca5e69e2c78b3239ecfab21649");
	signs("SHA512", "164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea250554"
	    "9758bf75c05a994a6d034f65f8f0e6fdcaeab1a34d4a6b4b636e070a38bce737");
	ok(mac_open("NONSENSE", "k", 1) == NULL, "no such digest");
	mac_close(&none);
	return done_testing();
}
