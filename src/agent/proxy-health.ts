import { createServer, type Server } from 'node:http';

export interface ProxyHealth {
  /** The agent does its work. */
  readonly healthy: boolean;
  /** The node is to stay: load balancers may send new clients to it (KEP-3836). */
  readonly nodeEligible: boolean;
}

/**
 * kube-proxy's health port (10256), for load balancers that ask it whether a node takes part: `/healthz` is 503 also
 * while the node is about to be removed, `/livez` only while services do not work.
 */
export function serveProxyHealth(
  where: { readonly host: string; readonly port: number },
  read: () => ProxyHealth,
): Promise<Server> {
  let lastUpdated = new Date();
  const server = createServer((request, response) => {
    const path = request.url?.split('?')[0];
    if (path !== '/healthz' && path !== '/livez') {
      response.writeHead(404).end();
      return;
    }
    const { healthy, nodeEligible } = read();
    const currentTime = new Date();
    if (healthy) lastUpdated = currentTime;
    const good = healthy && (path === '/livez' || nodeEligible);
    response.writeHead(good ? 200 : 503, {
      'content-type': 'application/json',
      'x-content-type-options': 'nosniff',
    });
    response.end(
      JSON.stringify({ lastUpdated, currentTime, ...(path === '/healthz' ? { nodeEligible } : {}) }),
    );
  });
  const { promise, resolve, reject } = Promise.withResolvers<Server>();
  server.once('error', reject);
  server.listen(where.port, where.host, () => {
    server.off('error', reject);
    server.unref();
    resolve(server);
  });
  return promise;
}
