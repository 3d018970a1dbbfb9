import { isIP } from 'node:net';
import { type EndpointSlice, SLICES_BY_SERVICE } from '../api/endpoint-slice.ts';
import type { Service } from '../api/service.ts';
import type { Endpoint } from '../kvstore/endpoint.ts';
import { EtcdFailure } from '../kvstore/failure.ts';
import type { ReadonlyTable } from '../table/table.ts';

export interface OwnServices {
  /** By `namespace/name`. */
  readonly services: ReadonlyTable<Service>;
  /** With the index {@link SLICES_BY_SERVICE}. */
  readonly slices: ReadonlyTable<EndpointSlice>;
}

/**
 * The ready pods behind an endpoint that names a Service of the own cluster, `<service>.<namespace>.svc`; undefined for
 * any other. An agent is on the host network, where nobody knows such names; and with all the pods at hand it need not
 * wait for the Service to send it away from one that is gone. @throws EtcdFailure where nobody is ready
 */
export function podsOfService(
  { services, slices }: OwnServices,
  { host, port, serverName }: Endpoint,
): readonly Endpoint[] | undefined {
  const match = /^([a-z0-9-]+)\.([a-z0-9-]+)\.svc(\.|$)/.exec(host);
  if (!match || isIP(host)) return undefined;
  const key = `${match[2]}/${match[1]}`;
  const service = services.get(key);
  const name = service?.ports.find(each => each.port === port && each.protocol === 'TCP')?.name;
  if (name === undefined) {
    const why = !services.synced
      ? 'the Services of this cluster are not known yet'
      : service
        ? `Service ${key} has no TCP port ${port}`
        : `there is no Service ${key}`;
    throw new EtcdFailure('dns', `${host}: ${why}`);
  }
  const pods = new Map<string, Endpoint>();
  for (const slice of slices.by(SLICES_BY_SERVICE, key)) {
    const target = slice.ports.find(each => each.name === name && each.protocol === 'TCP');
    if (!target || slice.addressType === 'FQDN') continue;
    for (const { address, ready } of slice.endpoints)
      if (ready) pods.set(address, { host: address, port: target.port, serverName });
  }
  if (pods.size === 0) throw new EtcdFailure('dns', `${host}: no pod of Service ${key} is ready`);
  return [...pods.values()];
}
