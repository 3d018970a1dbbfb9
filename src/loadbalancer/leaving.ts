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
import type { PodRow } from '../identity/pod.ts';
import { derive, input } from '../table/derive.ts';
import type { ReadonlyTable } from '../table/table.ts';

/** An address whose pod has been told to end. */
export interface LeavingAddress {
  readonly address: string;
  readonly namespace: string;
  /** Node it is on. */
  readonly nodeIp: string;
}

/** Index that finds who has an address. */
const BY_ADDRESS = 'address';

/** By address. One that a pod has which is to stay, too, is not left. */
export function deriveLeaving(
  /** With the index `address`. */
  endpoints: ReadonlyTable<EndpointObjectRow>,
  /** Of this node, by `namespace/name`: what is known of them need not be written first. */
  pods?: ReadonlyTable<PodRow>,
): ReadonlyTable<LeavingAddress> {
  const isLeaving = ({ namespace, name, podUid, leaving }: EndpointObjectRow): boolean => {
    const pod = pods?.get(`${namespace}/${name}`);
    return leaving || (pod?.leaving === true && pod.uid === podUid);
  };
  return derive<LeavingAddress>({
    name: 'leaving-addresses',
    keyOf: row => row.address,
    rowPerGroup: true,
    equal: (a, b) => a.namespace === b.namespace && a.nodeIp === b.nodeIp,
    inputs: [
      input(endpoints, row => row.addresses),
      ...(pods ? [input(pods, row => (row.leaving ? row.addresses : []))] : []),
    ],
    compute(address) {
      const owners = [...endpoints.by(BY_ADDRESS, address)];
      const [first] = owners;
      if (!first || !owners.every(isLeaving)) return [];
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
  // Of thousands of nodes one is looked for with each pod that ends.
  const addresses = derive<{ readonly name: string; readonly address: string }>({
    name: 'node-addresses-by-name',
    keyOf: row => row.name,
    rowPerGroup: true,
    indexes: { [BY_ADDRESS]: row => [row.address] },
    equal: (a, b) => a.address === b.address,
    inputs: [input(nodes, row => [row.name])],
    compute(name) {
      const node = nodes.get(name);
      const address = node && nodeAddress(node);
      return address === undefined ? [] : [{ name, address }];
    },
  });
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
        for (const { name } of addresses.by(BY_ADDRESS, nodeIp))
          for (const slice of slices.by(SLICES_BY_NODE, name))
            if (slice.namespace === namespace && slice.endpoints.some(each => each.address === address))
              yield endpointSliceKey(slice);
      }),
      // A node that was not known when its pod was told to end.
      input(addresses, function* ({ name }) {
        if (leaving.size > 0)
          for (const slice of slices.by(SLICES_BY_NODE, name)) yield endpointSliceKey(slice);
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
