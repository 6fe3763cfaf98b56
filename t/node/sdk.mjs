// The official SDK's clients at a server: what they see, as one JSON object a line on stdout.
//
//	node sdk.mjs URL TOKEN v1|legacy|auto|modern
//
// v1 is version 1 of the SDK; the others are version 2 in that mode.
import { createRequire } from 'node:module';

const require = createRequire(process.env.PARLEY_NODE_DIR + '/package.json');
const [url, token, mode] = process.argv.slice(2);
const requestInit = { headers: { Authorization: 'Bearer ' + token } };

function connect() {
	const info = { name: 'parley-test', version: '1' };
	if (mode === 'v1') {
		const { Client } = require('@modelcontextprotocol/sdk/client/index.js');
		const { StreamableHTTPClientTransport } = require('@modelcontextprotocol/sdk/client/streamableHttp.js');
		return [new Client(info), new StreamableHTTPClientTransport(new URL(url), { requestInit })];
	}
	const { Client, StreamableHTTPClientTransport } = require('@modelcontextprotocol/client');
	const versionNegotiation = { mode: mode === 'modern' ? { pin: '2026-07-28' } : mode };
	return [new Client(info, { versionNegotiation }), new StreamableHTTPClientTransport(new URL(url), { requestInit })];
}

function say(what, value) {
	console.log(JSON.stringify({ what, value }));
}

// What a call comes to, whether it is answered or refused.
async function attempt(call) {
	try {
		return await call();
	} catch (e) {
		return { refused: e.code ?? e.name, message: e.message };
	}
}

const [client, transport] = connect();
await client.connect(transport);
say('server', client.getServerVersion());
say('version', transport.protocolVersion ?? client.getNegotiatedProtocolVersion?.() ?? null);
const { tools } = await client.listTools();
say('tools', tools);
// The SDK holds results against the schema of the tool, and refuses those that do not fit.
say('added', await client.callTool({ name: 'add_task', arguments: { title: 'By ' + mode } }));
say('listed', await client.callTool({ name: 'list_tasks', arguments: {} }));
say('pair', await client.callTool({ name: 'pair', arguments: {} }));
say('wrong', await attempt(() => client.callTool({ name: 'add_task', arguments: {} })));
say('unknown', await attempt(() => client.callTool({ name: 'no_such_tool', arguments: {} })));
const many = await Promise.all([1, 2, 3, 4, 5, 6, 7, 8].map(i =>
	client.callTool({ name: 'greet', arguments: { name: String(i) } })));
say('many', many.map(r => r.content[0].text));
say('ping', await attempt(() => client.ping()));
await client.close();
