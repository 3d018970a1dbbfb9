/** Values of `endpointslices/v1` as Cilium writes them. */
import { zstdCompressSync } from 'node:zlib';
import { create, type MessageInitShape, toBinary } from '@bufbuild/protobuf';
import type { Entry } from '../kvstore/range.ts';
import type { RawRow } from '../kvstore/target.ts';
import { ClusterEndpointSliceSchema } from './gen/endpoint-slice_pb.js';

export type SliceInit = Exclude<MessageInitShape<typeof ClusterEndpointSliceSchema>, { $typeName: string }>;
export type EndpointState = 'ready' | 'draining' | 'down';

/** A slice of a service in namespace shop; an address may be followed by its state. */
export function sliceMessage(
  cluster: string,
  clusterId: number,
  service: string,
  name: string,
  endpoints: readonly (string | readonly [address: string, state: EndpointState])[],
): SliceInit {
  return {
    cluster,
    clusterId,
    namespace: 'shop',
    name,
    labels: { 'kubernetes.io/service-name': service },
    addressType: 'IPv4',
    ports: [{ name: 'http', protocol: 'TCP', port: 8080 }],
    endpoints: endpoints.map(each => {
      const [address, state] = typeof each === 'string' ? [each, 'ready'] : each;
      const ready = state === 'ready';
      return {
        addresses: [address],
        conditions: { ready, serving: state !== 'down', terminating: state === 'draining' },
      };
    }),
  };
}

export const sliceBytes = (init: SliceInit): Uint8Array =>
  zstdCompressSync(toBinary(ClusterEndpointSliceSchema, create(ClusterEndpointSliceSchema, init)));

export function sliceRow(...of: Parameters<typeof sliceMessage>): RawRow {
  const [cluster, , , name] = of;
  return {
    key: `cilium/state/endpointslices/v1/${cluster}/shop/${name}`,
    value: sliceBytes(sliceMessage(...of)),
  };
}

/** A key of an etcd as it is read. */
export function entryOf({ key, value }: RawRow): Entry {
  const bytes = Buffer.from(value);
  return { key, value: bytes.toString(), bytes, lease: 0n, modRevision: 1n };
}
