import { createServer, type Server } from 'node:http';
import { type EndpointSlice, SLICES_BY_SERVICE } from '../api/endpoint-slice.ts';
import { PROXY_NAME_LABEL, type Service, serviceKey } from '../api/service.ts';
import { derive, input } from '../table/derive.ts';
import type { Operation, Target } from '../table/reconciler.ts';
import type { ReadonlyTable } from '../table/table.ts';

/** A port at which load balancers ask whether this node has endpoints of a service. */
export interface HealthCheckPort {
  readonly namespace: string;
  readonly name: string;
  readonly port: number;
  /** Ready endpoints on this node. Terminating ones do not count: no new client is to be sent here (KEP-1669). */
  readonly localEndpoints: number;
}

/** The healthCheckNodePorts of services with externalTrafficPolicy Local. */
export function deriveHealthCheckPorts(inputs: {
  readonly services: ReadonlyTable<Service>;
  /** With the index {@link SLICES_BY_SERVICE}. */
  readonly slices: ReadonlyTable<EndpointSlice>;
  readonly node: string;
}): ReadonlyTable<HealthCheckPort> {
  const { services, slices, node } = inputs;
  return derive<HealthCheckPort>({
    name: 'health-check-ports',
    keyOf: serviceKey,
    equal: (a, b) => a.port === b.port && a.localEndpoints === b.localEndpoints,
    inputs: [
      input(services, row => [serviceKey(row)]),
      input(slices, row => (services.get(row.service)?.healthCheckNodePort ? [row.service] : [])),
    ],
    compute(key) {
      const service = services.get(key);
      if (!service || service.healthCheckNodePort === 0 || PROXY_NAME_LABEL in service.labels) return [];
      const addresses = new Set<string>();
      for (const slice of slices.by(SLICES_BY_SERVICE, key))
        for (const endpoint of slice.endpoints)
          if (endpoint.ready && endpoint.node === node) addresses.add(endpoint.address);
      const { namespace, name, healthCheckNodePort: port } = service;
      return [{ namespace, name, port, localEndpoints: addresses.size }];
    },
  });
}

interface Open {
  readonly server: Server;
  row: HealthCheckPort;
}

/**
 * Serves the ports at every address of the node, with kube-proxy's answer: 200 where this node has ready endpoints
 * and the agent does its work, else 503, and a JSON body that says both.
 */
export class HealthCheckServers implements Target<HealthCheckPort>, Disposable {
  readonly #open = new Map<string, Open>();
  readonly #healthy: () => boolean;

  constructor(options: { readonly healthy: () => boolean }) {
    this.#healthy = options.healthy;
  }

  async apply(batch: readonly Operation<HealthCheckPort>[]): Promise<ReadonlyMap<string, Error>> {
    const failed = new Map<string, Error>();
    // Ports that are given up first: another service of the batch may have got them.
    for (const { key, row } of batch) if (this.#open.get(key)?.row.port !== row?.port) this.#close(key);
    for (const { key, row } of batch) {
      if (!row) continue;
      const open = this.#open.get(key);
      if (open) {
        open.row = row;
        continue;
      }
      try {
        this.#open.set(key, await this.#listen(row));
      } catch (error) {
        const reason = error instanceof Error ? error.message : String(error);
        failed.set(
          key,
          new Error(`healthCheckNodePort ${row.port} cannot be opened on this node: ${reason}`),
        );
      }
    }
    return failed;
  }

  [Symbol.dispose](): void {
    for (const key of [...this.#open.keys()]) this.#close(key);
  }

  #close(key: string): void {
    const open = this.#open.get(key);
    if (!open) return;
    this.#open.delete(key);
    open.server.close();
    open.server.closeAllConnections();
  }

  #listen(row: HealthCheckPort): Promise<Open> {
    const { promise, resolve, reject } = Promise.withResolvers<Open>();
    const server = createServer((_request, response) => {
      const { namespace, name, localEndpoints } = open.row;
      const serviceProxyHealthy = this.#healthy();
      response.writeHead(localEndpoints > 0 && serviceProxyHealthy ? 200 : 503, {
        'content-type': 'application/json',
        'x-content-type-options': 'nosniff',
        'x-load-balancing-endpoint-weight': String(localEndpoints),
      });
      response.end(JSON.stringify({ service: { namespace, name }, localEndpoints, serviceProxyHealthy }));
    });
    const open: Open = { server, row };
    server.once('error', reject);
    // Without a host: every address of both families, or of IPv4 where there is no IPv6.
    server.listen(row.port, () => {
      server.off('error', reject);
      server.unref();
      resolve(open);
    });
    return promise;
  }
}
