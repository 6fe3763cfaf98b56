// Tokens, right and wrong in every way that comes to mind, as one JSON object a line on stdout: { what, token,
// verdict }, where the verdict is that of the library jose: "ok", "expired" or "invalid".  Its keys go to DIR/jwks.json.
//
//	node tokens.mjs DIR SECRET COUNT
import { createRequire } from 'node:module';
import { createHmac, createPrivateKey, createPublicKey, generateKeyPairSync, sign } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';

const require = createRequire(process.env.PARLEY_NODE_DIR + '/package.json');
const jose = await import(require.resolve('jose'));
const [dir, secret, count] = process.argv.slice(2);

const ISSUER = 'https://issuer.example', AUDIENCE = 'chat', LEEWAY = 60;
const ALGS = ['HS256', 'HS384', 'HS512', 'RS256', 'RS384', 'RS512', 'ES256', 'ES384', 'ES512', 'EdDSA'];
const now = Math.floor(Date.now() / 1000);

// The same numbers each time, but for the keys: they are made anew.
let state = 20261121;
const below = (n) => (state = (Math.imul(state, 1664525) + 1013904223) >>> 0, Math.floor(state / 256) % n);
const one = (...all) => all[below(all.length)];

const pair = (type, options) => generateKeyPairSync(type, options).privateKey;
const keys = {
	rsa: pair('rsa', { modulusLength: 2048 }), rsa2: pair('rsa', { modulusLength: 2048 }), weak: pair('rsa', { modulusLength: 1024 }),
	p256: pair('ec', { namedCurve: 'P-256' }), p384: pair('ec', { namedCurve: 'P-384' }), p521: pair('ec', { namedCurve: 'P-521' }),
	ed: pair('ed25519'), foreign: pair('ed25519'), foreignrsa: pair('rsa', { modulusLength: 2048 }), foreignec: pair('ec', { namedCurve: 'P-256' }),
};
const set = { keys: ['rsa', 'rsa2', 'p256', 'p384', 'p521', 'ed'].map((kid) =>
	({ ...createPublicKey(keys[kid]).export({ format: 'jwk' }), kid, ...(kid === 'rsa2' ? { alg: 'RS512' } : {}) })) };
writeFileSync(join(dir, 'jwks.json'), JSON.stringify(set));

const local = jose.createLocalJWKSet(set), bytes = new TextEncoder().encode(secret);
const options = { algorithms: ALGS, issuer: ISSUER, audience: AUDIENCE, clockTolerance: LEEWAY, requiredClaims: ['exp', 'sub'] };

async function verdict(token) {
	try {
		await jose.jwtVerify(token, (header, t) => (header.alg.startsWith('HS') ? bytes : local(header, t)), options);
		return 'ok';
	} catch (e) {
		return e.code === 'ERR_JWT_EXPIRED' ? 'expired' : 'invalid';
	}
}

const b64 = (x) => Buffer.from(x).toString('base64url');
const HASH = { 256: 'sha256', 384: 'sha384', 512: 'sha512' };

// Signed as it stands: by is the name of a key, or the shared secret's bytes.
function signature(alg, by, text) {
	const hash = HASH[alg.slice(2)] ?? 'sha256';
	if (typeof by !== 'string')
		return createHmac(hash, by).update(text).digest('base64url');
	const key = keys[by];
	const type = key.asymmetricKeyType;
	return sign(type === 'ed25519' ? null : hash, Buffer.from(text),
	    type === 'ec' ? { key, dsaEncoding: below(12) ? 'ieee-p1363' : 'der' } : key).toString('base64url');
}

const put = (header, payload, alg, by) => {
	const text = `${b64(header)}.${b64(payload)}`;
	return `${text}.${signature(alg, by, text)}`;
};

// The key that the algorithm wants, but for one in eight.
function keyFor(alg) {
	if (below(8) === 0)
		return one('rsa', 'rsa2', 'weak', 'p256', 'p384', 'p521', 'ed', 'foreign', 'foreignrsa', 'foreignec', Buffer.from('another secret of 32 bytes or more'),
		    Buffer.from(createPublicKey(keys.rsa).export({ type: 'spki', format: 'pem' })), Buffer.from(JSON.stringify(set.keys[5])));
	return { HS: bytes, RS: 'rsa', PS: 'rsa', Ed: 'ed', ES: { ES256: 'p256', ES384: 'p384', ES512: 'p521' }[alg] }[alg.slice(0, 2)] ?? 'ed';
}

function headerFor(alg, by) {
	const h = { alg };
	const kid = typeof by === 'string' ? by : null;
	if (kid && below(6))
		h.kid = kid;
	else if (below(4) === 0)
		h.kid = one('rsa', 'rsa2', 'ed', 'p256', 'nobody', '', 'ED', 1, null, ['ed']);
	if (below(3) === 0)
		h.typ = one('JWT', 'jwt', 'at+jwt', 'application/at+jwt', 'application/jwt', 'logout+jwt', 'JWS', '', 1, null);
	if (below(15) === 0)
		Object.assign(h, one({ crit: ['exp'] }, { crit: ['b64'], b64: true }, { crit: ['b64'], b64: false }, { b64: true }, { b64: false }, { crit: [] }, { crit: null }));
	if (below(15) === 0)
		Object.assign(h, one({ jwk: set.keys[5] }, { jku: 'https://evil.example/' }, { x5u: 'https://evil.example/' }, { cty: 'JWT' }, { zip: 'DEF' }, { enc: 'A128GCM' }));
	return h;
}

// Edges lie most of a minute beside what the leeway allows, so that no slow machine sees another verdict.
const DATES = [now + 900, now + 900, now + 900, now - 5, now - 120, now + 30, now + 120, now + 900.5, 0, 1, -1, 1.9, 253402300799, 253402300800, 1900000000000, 1e19, 'x', String(now + 900),
	null, true, [now + 900], {}];

function payloadFor() {
	// Enough that are good, and enough that are good but for their time.
	if (below(3) === 0)
		return { sub: 'ann', exp: one(now + 900, now + 900, now - 5, now - 120), iss: ISSUER, aud: one(AUDIENCE, ['x', AUDIENCE]) };
	const p = { sub: one('ann', 'ann', 'ann', 'bob', 'Jürgen', '用户', '', ' ', 'a\nb', 'a\u0000b', 'a\u007f', 'a\u0085b', 'x'.repeat(255), 'x'.repeat(256), 7, 0, -1, 1.5, 9007199254740993, null, true, ['ann'], {}),
		exp: below(2) ? now + 900 : one(...DATES), iss: ISSUER, aud: AUDIENCE };
	if (below(3) === 0)
		p.nbf = one(...DATES, now - 900, now - 900);
	if (below(3) === 0)
		p.iat = one(...DATES, now - 900, now - 900);
	if (below(8) === 0)
		p.iss = one('https://issuer.example/', 'HTTPS://issuer.example', '', null, 1, [ISSUER]);
	if (below(4) === 0)
		p.aud = one(['chat'], ['x', 'chat'], ['x'], [], 'x', 'chat ', 'CHAT', null, 1, ['chat', 1], [['chat']], { chat: 1 });
	for (const name of Object.keys(p))
		if (below(25) === 0)
			delete p[name];
	return p;
}

// The text of an object, now and then as nobody should write it.
function written(o) {
	const text = JSON.stringify(o);
	switch (below(32)) {
	case 0: return text.replace('{', '{"alg":"none",');
	case 1: return text.replace(/\}$/, ',"sub":"root"}');
	case 2: return text.replace(/\}$/, ',"\\u0065xp":9999999999}');
	case 3: return ` \n${text}\t`;
	case 4: return one(`${text}x`, `${text}{}`, `[${text}]`, '\ufeff' + text, text.slice(0, -1), text.replace('}', ',}'), `"${b64(text)}"`, 'null', '');
	case 5: return text.replace(/"sub":"([^"]*)"/, '"sub":"\\ud800"');
	case 6: return text.replace(/"exp":(\d+)/, one('"exp":$1.0', '"exp":$1e0', '"exp":+$1', '"exp":0$1', '"exp":1e400', '"exp":1' + '0'.repeat(50), '"exp":NaN'));
	case 7: return text.replace('}', one(',"deep":' + '['.repeat(40) + ']'.repeat(40) + '}', `,"large":"${'y'.repeat(9000)}"}`, ',"n":{"a":1,"a":2}}'));
	default: return text;
	}
}

// The three segments, touched after signing.
function touched(token) {
	const at = below(token.length);
	const [h, p, s] = token.split('.');
	switch (below(14)) {
	case 0: return `${token}=`;
	case 1: return `${h}=.${p}=.${s}==`;
	case 2: return one(`${token}\n`, ` ${token}`, `${h} .${p}.${s}`, `${h}.${p}.\n${s}`, `${token} `);
	case 3: return token.replaceAll('-', '+').replaceAll('_', '/');
	case 4: return token.slice(0, at) + token.slice(at + 1);
	case 5: return token.slice(0, at) + one('A', 'B', '.', '+', '\u00e4', '"') + token.slice(at + 1);
	case 6: return one(`${h}.${p}`, `${h}.${p}.`, `.${p}.${s}`, `${h}..${s}`, `${token}.`, `${token}.${s}`, `${token}.a.b`, h, '', '..');
	case 7: return `${h}.${b64('{"sub":"root","exp":9999999999,"iss":"https://issuer.example","aud":"chat"}')}.${s}`;
	case 8: return `${b64('{"alg":"none"}')}.${p}.`;
	case 9: return `${h}.${p}.${b64(Buffer.concat([Buffer.from(s, 'base64url'), Buffer.from([0])]))}`;
	case 10: return `${h}.${p}.${b64(Buffer.from(s, 'base64url').subarray(0, -1))}`;
	case 11: return `${h}.${p}.${b64(Buffer.alloc(Buffer.from(s, 'base64url').length))}`;
	case 12: {
		// The last character has bits that stand for nothing: other bits, the same bytes.
		const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_';
		return token.slice(0, -1) + alphabet[alphabet.indexOf(token.at(-1)) ^ 1];
	}
	default: return put(`{"alg":"HS256"}`, token, 'HS256', bytes);
	}
}

for (let i = 0; i < Number(count); i++) {
	const alg = below(10) ? one(...ALGS) : one('none', 'NONE', 'None', 'hs256', 'PS256', 'ES256K', 'Ed25519', 'HS1', '', null, 256, ['HS256']);
	const by = typeof alg === 'string' ? keyFor(alg) : bytes;
	const header = headerFor(alg, by), payload = payloadFor();
	let token = put(written(header), written(payload), String(alg), by);
	if (below(5) === 0)
		token = touched(token);
	console.log(JSON.stringify({ what: `${JSON.stringify(header)} by ${typeof by === 'string' ? by : 'a secret'}: ${JSON.stringify(payload).slice(0, 200)}`,
		token, verdict: await verdict(token) }));
}
