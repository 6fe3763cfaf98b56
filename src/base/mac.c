#include "base/mac.h"

#include <openssl/core_names.h>
#include <openssl/evp.h>

/* OpenSSL's own context is the whole of it. */
static EVP_MAC_CTX *
context(struct mac *m)
{
	return (EVP_MAC_CTX *)m;
}

struct mac *
mac_open(const char *digest, const void *key, size_t n)
{
	EVP_MAC		*hmac = EVP_MAC_fetch(NULL, "HMAC", NULL);
	EVP_MAC_CTX	*ctx = EVP_MAC_CTX_new(hmac);
	char		 name[16];
	OSSL_PARAM	 params[2] = { OSSL_PARAM_END, OSSL_PARAM_END };

	/* A parameter's text is not const. */
	OPENSSL_strlcpy(name, digest, sizeof name);
	params[0] = OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, name, 0);
	EVP_MAC_free(hmac);
	if (ctx != NULL && EVP_MAC_init(ctx, key, n, params) == 1)
		return (struct mac *)ctx;
	EVP_MAC_CTX_free(ctx);
	return NULL;
}

void
mac_close(struct mac **m)
{
	EVP_MAC_CTX_free(context(*m));
	*m = NULL;
}

size_t
mac_sign(struct mac *m, const void *text, size_t len, unsigned char out[MAC_MAX])
{
	size_t	 n;

	/* Without a key: the one it has. */
	if (EVP_MAC_init(context(m), NULL, 0, NULL) == 1 &&
	    EVP_MAC_update(context(m), text, len) == 1 &&
	    EVP_MAC_final(context(m), out, &n, MAC_MAX) == 1)
		return n;
	return 0;
}
