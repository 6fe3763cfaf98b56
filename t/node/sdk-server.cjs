// A small MCP server on the official SDK, for t/mcp-real.t.
//
//	node sdk-server.cjs FOLDER PORT stateless|reject auto|sse|json
//
// FOLDER is where the packages are installed (scripts/node-packages.sh); the third word is what the SDK does with
// clients of the old eras, the fourth how it answers.
const [folder, port, legacy, responseMode] = process.argv.slice(2);
const load = require('node:module').createRequire(`${folder}/here.js`);
const http = require('node:http');
const { McpServer, createMcpHandler } = load('@modelcontextprotocol/server');
const { z } = load('zod');

function factory() {
	const server = new McpServer({ name: 'small', version: '1.0.0' });
	server.registerTool('add', {
		description: 'Adds two numbers.',
		inputSchema: z.object({ a: z.number(), b: z.number() }),
		annotations: { readOnlyHint: true },
	}, async ({ a, b }) => ({ content: [{ type: 'text', text: String(a + b) }] }));
	server.registerTool('region', {
		description: 'Says where it is.',
		inputSchema: z.object({ region: z.string().meta({ 'x-mcp-header': 'Region' }), note: z.string().optional() }),
	}, async ({ region }, ctx) => ({
		content: [{ type: 'text', text: `${region} ${ctx?.http?.req?.headers?.get('mcp-param-region') ?? '-'}` }],
	}));
	server.registerTool('fails', { description: 'Fails.', inputSchema: z.object({}) },
	    async () => { throw new Error('out of order'); });
	server.registerTool('typed', {
		description: 'Gives an object.',
		inputSchema: z.object({}),
		outputSchema: z.object({ n: z.number() }),
	}, async () => ({ structuredContent: { n: 3 }, content: [] }));
	return server;
}

const handler = createMcpHandler(factory, { legacy, responseMode });
http.createServer(async (req, res) => {
	const chunks = [];
	for await (const chunk of req)
		chunks.push(chunk);
	const body = Buffer.concat(chunks);
	const answer = await handler.fetch(new Request(`http://127.0.0.1:${port}${req.url}`, {
		method: req.method,
		headers: req.headers,
		body: body.length > 0 ? body : undefined,
	}));
	res.writeHead(answer.status, Object.fromEntries(answer.headers));
	if (answer.body)
		for await (const chunk of answer.body)
			res.write(chunk);
	res.end();
}).listen(Number(port), '127.0.0.1', () => console.log('ready'));
