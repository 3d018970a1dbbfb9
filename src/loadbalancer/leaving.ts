/**
 * Pods that have been told to end, known before Kubernetes says so in their EndpointSlices. Its controller writes a slice
 * for one pod after the other, waits a second where two of them are told in the same moment, and has a limit of requests
 * for the whole cluster; kubelet waits for none of this. The agent of a pod's node hears of its end when kubelet does, and
 * says so in the CiliumEndpoint.
 */
import type { EndpointObjectRow } from '../api/crds/cilium-endpoint.ts';
import { type NodeRow, nodeAddress } from '../api/crds/cilium-node.ts';
import {
  type EndpointSlice,
  endpointSliceKey,
  endpointSliceTable,
  SLICES_BY_NODE,
} from '../api/endpoint-slice.ts';
import { derive, input } from '../table/derive.ts';
import type { ReadonlyTable } from '../table/table.ts';

/** An address whose pod has been told to end. */
export interface LeavingAddress {
  readonly address: string;
  readonly namespace: string;
  /** Node it is on. */
  readonly nodeIp: string;
}

/** Index of a table of endpoints that finds who claims an address. */
const BY_ADDRESS = 'address';

/** By address. One that a pod has which is to stay, too, is not left. */
export function deriveLeaving(
  /** With the index `address`. */
  endpoints: ReadonlyTable<EndpointObjectRow>,
): ReadonlyTable<LeavingAddress> {
  return derive<LeavingAddress>({
    name: 'leaving-addresses',
    keyOf: row => row.address,
    rowPerGroup: true,
    equal: (a, b) => a.namespace === b.namespace && a.nodeIp === b.nodeIp,
    inputs: [input(endpoints, row => row.addresses)],
    compute(address) {
      const owners = [...endpoints.by(BY_ADDRESS, address)];
      const [first] = owners;
      if (!first || !owners.every(each => each.leaving)) return [];
      return [{ address, namespace: first.namespace, nodeIp: first.nodeIp }];
    },
  });
}

/**
 * The slices as Kubernetes will say them: an endpoint that it calls ready and not terminating, and whose pod has been told to
 * end, is terminating. What it says itself counts as soon as it does.
 */
export function deriveCurrentSlices({
  slices,
  leaving,
  nodes,
}: {
  /** With the indexes of `endpointSliceTable`. */
  readonly slices: ReadonlyTable<EndpointSlice>;
  readonly leaving: ReadonlyTable<LeavingAddress>;
  /** Nodes of the own cluster. */
  readonly nodes: ReadonlyTable<NodeRow>;
}): ReadonlyTable<EndpointSlice> {
  const isLeft = (namespace: string, address: string): boolean =>
    leaving.get(address)?.namespace === namespace;
  return derive<EndpointSlice>({
    ...endpointSliceTable,
    name: 'current-slices',
    rowPerGroup: true,
    equal: (a, b) => a === b,
    inputs: [
      input(slices, row => [endpointSliceKey(row)]),
      input(leaving, function* ({ address, namespace, nodeIp }) {
        const node = [...nodes.values()].find(each => nodeAddress(each) === nodeIp)?.name ?? '';
        for (const slice of slices.by(SLICES_BY_NODE, node))
          if (slice.namespace === namespace && slice.endpoints.some(each => each.address === address))
            yield endpointSliceKey(slice);
      }),
    ],
    compute(key) {
      const slice = slices.get(key);
      if (!slice) return [];
      const isEarly = ({ ready, terminating, address }: EndpointSlice['endpoints'][number]): boolean =>
        ready && !terminating && isLeft(slice.namespace, address);
      if (leaving.size === 0 || !slice.endpoints.some(isEarly)) return [slice];
      const endpoints = slice.endpoints.map(each =>
        isEarly(each) ? { ...each, ready: false, serving: true, terminating: true } : each,
      );
      return [{ ...slice, endpoints }];
    },
  });
}
