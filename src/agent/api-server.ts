import { once } from 'node:events';
import { mkdirSync, renameSync, rmSync } from 'node:fs';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { dirname } from 'node:path';
import type { Registry } from 'prom-client';

/** Where the agent answers on its node; only root reaches it. */
export const AGENT_SOCKET = '/run/isthmus/agent.sock';

export interface ApiServerOptions {
  readonly socketPath?: string;
  /**
   * Path (`/v1/status`) → what to answer as JSON. Must not change anything. An iterator is a list whose rows
   * are taken and sent a few at a time: the agent's other work goes on meanwhile, however long it is.
   */
  readonly views: Readonly<Record<string, () => unknown>>;
  /** Path → what to do on POST; resolves to what to answer. */
  readonly actions?: Readonly<Record<string, () => Promise<unknown>>>;
  /** Served at /v1/metrics. */
  readonly registry: Registry;
  readonly onError: (path: string, error: unknown) => void;
}

/** HTTP and JSON over a Unix socket: what `isthmus agent …` in the pod, and by it `isthmus status`, reads. */
export async function serveApi(options: ApiServerOptions): Promise<AsyncDisposable> {
  const path = options.socketPath ?? AGENT_SOCKET;
  const server = createServer((request, response) => {
    answer(request, response, options).catch((error: unknown) => {
      options.onError(request.url ?? '', error);
      send(response, 500, { error: error instanceof Error ? error.message : String(error) });
    });
  });
  mkdirSync(dirname(path), { recursive: true, mode: 0o755 });
  await listen(server, path);
  return {
    async [Symbol.asyncDispose]() {
      rmSync(path, { force: true });
      server.closeAllConnections();
      await new Promise<void>(resolve => server.close(() => resolve()));
    },
  };
}

async function answer(
  request: IncomingMessage,
  response: ServerResponse,
  options: ApiServerOptions,
): Promise<void> {
  const path = request.url?.split('?')[0] ?? '';
  const action = options.actions?.[path];
  if (action) {
    if (request.method !== 'POST') return send(response, 405, { error: `${path} wants POST` });
    return send(response, 200, await action());
  }
  if (request.method !== 'GET') return send(response, 405, { error: `${path} wants GET` });
  if (path === '/v1/metrics') {
    response.writeHead(200, { 'content-type': options.registry.contentType });
    response.end(await options.registry.metrics());
    return;
  }
  const view = options.views[path];
  if (view) {
    const body = view();
    return body instanceof Iterator ? sendRows(response, body) : send(response, 200, body);
  }
  const paths = [...Object.keys(options.views), '/v1/metrics'];
  send(response, 404, { error: `no ${path}; there is ${paths.join(', ')}` });
}

function send(response: ServerResponse, code: number, body: unknown): void {
  if (response.headersSent) return void response.end();
  response.writeHead(code, { 'content-type': 'application/json' });
  response.end(`${JSON.stringify(body ?? {})}\n`);
}

/** Milliseconds of work on a long list before others get a turn. */
const SLICE = 5;

async function sendRows(response: ServerResponse, rows: IteratorObject<unknown>): Promise<void> {
  let text = '[';
  let between = '';
  let until = performance.now() + SLICE;
  for (const row of rows) {
    // The first row has been made: what fails before it is still an answer of its own.
    if (!response.headersSent) response.writeHead(200, { 'content-type': 'application/json' });
    text += between + JSON.stringify(row);
    between = ',\n';
    if (performance.now() < until) continue;
    // A reader that is slow or gone holds nothing in memory.
    if (!response.write(text)) await Promise.race([once(response, 'drain'), once(response, 'close')]);
    else await new Promise(resolve => setImmediate(resolve));
    if (response.destroyed) return;
    text = '';
    until = performance.now() + SLICE;
  }
  if (!response.headersSent) response.writeHead(200, { 'content-type': 'application/json' });
  response.end(`${text}]\n`);
}

/** Bound aside and renamed, so that the name never stands for a socket nobody listens on. */
async function listen(server: Server, path: string): Promise<void> {
  const aside = `${path}.new`;
  rmSync(aside, { force: true });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(aside, resolve);
  });
  renameSync(aside, path);
}
