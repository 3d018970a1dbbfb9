/** The BPF map `endpoints`: the addresses this node serves, its pods' and its own. */
import { format, parse } from '../datapath/address.ts';
import type { Logger } from '../log.ts';
import { derive, input } from '../table/derive.ts';
import { Reconciler, type Target } from '../table/reconciler.ts';
import type { ReadonlyTable } from '../table/table.ts';
import { addressesOf, type Endpoint, type EndpointMapRow, endpointMapRow } from './endpoint.ts';

/** An address of the node itself: packets to it are handed to the stack. */
export interface HostAddress {
  readonly address: string;
}

/** Flag of the map's rows (bpf/types.h). */
export const ENDPOINT_HOST = 1;
const IDENTITY_HOST = 1;

/** What is needed of the BPF map. */
export interface EndpointMap {
  set(key: EndpointMapRow['key'], value: EndpointMapRow['value']): void;
  delete(key: EndpointMapRow['key']): boolean;
  entries(): Iterable<[EndpointMapRow['key'], EndpointMapRow['value']]>;
}

/** Rows by address, of ready endpoints and of the node's own addresses. */
export function endpointMapRows(
  endpoints: ReadonlyTable<Endpoint>,
  hostAddresses: ReadonlyTable<HostAddress>,
): ReadonlyTable<EndpointMapRow> {
  return derive<EndpointMapRow>({
    name: 'endpoint-map',
    keyOf: row => format(row.key.addr),
    inputs: [
      input(endpoints, row => addressesOf(row).map(each => each.address)),
      input(hostAddresses, row => [row.address]),
    ],
    compute: address => {
      if (hostAddresses.has(address)) return [hostRow(address)];
      for (const endpoint of endpoints.by('address', address)) {
        const row = endpointMapRow(endpoint, address);
        if (row) return [row];
      }
      return [];
    },
  });
}

export interface EndpointMapOptions {
  readonly endpoints: ReadonlyTable<Endpoint>;
  /** Keyed by address. */
  readonly hostAddresses: ReadonlyTable<HostAddress>;
  readonly map: EndpointMap;
  readonly log: Logger;
  readonly signal: AbortSignal;
}

/** Keeps the map equal to the tables. `programmed` resolves when all present rows are in, or throws why not. */
export function reconcileEndpointMap(options: EndpointMapOptions): {
  readonly reconciler: Reconciler<EndpointMapRow>;
  programmed(key: string): Promise<void>;
} {
  const rows = endpointMapRows(options.endpoints, options.hostAddresses);
  const reconciler = new Reconciler(rows, mapTarget(options.map), {
    signal: options.signal,
    onError: (address, error, attempt) =>
      options.log.error({ address, attempt, error }, 'write to the endpoint map'),
  });
  return {
    reconciler,
    async programmed(key) {
      await reconciler.whenSettled();
      const endpoint = options.endpoints.get(key);
      for (const { address } of endpoint ? addressesOf(endpoint) : []) {
        const error = reconciler.status.failing.get(address);
        if (error) throw error;
      }
    },
  };
}

function mapTarget(map: EndpointMap): Target<EndpointMapRow> {
  return {
    existing: () => Array.from(map.entries(), ([key]) => format(key.addr)),
    apply(batch) {
      const failed = new Map<string, Error>();
      for (const { key, row } of batch) {
        try {
          if (row) map.set(row.key, row.value);
          else map.delete({ cluster_id: 0, pad: 0, addr: parse(key) });
        } catch (error) {
          failed.set(key, error instanceof Error ? error : new Error(String(error)));
        }
      }
      return failed;
    },
  };
}

function hostRow(address: string): EndpointMapRow {
  const none = new Uint8Array(6);
  return {
    key: { cluster_id: 0, pad: 0, addr: parse(address) },
    value: {
      ifindex: 0,
      identity: IDENTITY_HOST,
      endpoint_id: 0,
      policy_set: 0,
      mac: none,
      host_mac: none,
      flags: ENDPOINT_HOST,
    },
  };
}
