import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { collectDefaultMetrics, Registry } from 'prom-client';

/** Says why something is not well, or undefined when it is. Must answer at once. */
export type Check = () => string | undefined;

export interface HealthOptions {
  readonly host: string;
  readonly port: number;
  /** GET /healthz (alive): name → check. */
  readonly live?: Readonly<Record<string, Check>>;
  /** GET /readyz (does its work): name → check. */
  readonly ready?: Readonly<Record<string, Check>>;
}

/** A registry with the process's own metrics: memory, CPU, and the delay of the event loop. */
export function createRegistry(): Registry {
  const register = new Registry();
  // A sampling timer of 50 ms finds every delay worth a name and costs an idle process nothing to speak of.
  collectDefaultMetrics({ register, eventLoopMonitoringPrecision: 50 });
  return register;
}

/** Answers probes with 200 and "ok", or 503 and one line per failing check. */
export function serveHealth(options: HealthOptions): Promise<Server> {
  return listen(options, (request, response) => {
    const path = request.url?.split('?')[0];
    const checks =
      path === '/healthz' || path === '/livez' ? options.live : path === '/readyz' ? options.ready : null;
    if (checks === null) return answer(response, 404, 'not found\n');
    const failing = Object.entries(checks ?? {}).flatMap(([name, check]) => {
      const reason = check();
      return reason === undefined ? [] : [`${name}: ${reason}\n`];
    });
    answer(response, failing.length ? 503 : 200, failing.length ? failing.join('') : 'ok\n');
  });
}

/** Serves a registry at /metrics. */
export function serveMetrics(where: { host: string; port: number }, registry: Registry): Promise<Server> {
  return listen(where, (request, response) => {
    if (request.url?.split('?')[0] !== '/metrics') return answer(response, 404, 'not found\n');
    registry.metrics().then(
      text => answer(response, 200, text, registry.contentType),
      error => answer(response, 500, `${error}\n`),
    );
  });
}

function listen(
  where: { host: string; port: number },
  handler: (request: IncomingMessage, response: ServerResponse) => void,
): Promise<Server> {
  const server = createServer(handler);
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(where.port, where.host, () => {
      server.off('error', reject);
      server.unref();
      resolve(server);
    });
  });
}

function answer(
  response: ServerResponse,
  code: number,
  text: string,
  type = 'text/plain; charset=utf-8',
): void {
  response.writeHead(code, { 'content-type': type }).end(text);
}
