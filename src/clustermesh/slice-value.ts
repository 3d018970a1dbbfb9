import { isIPv6 } from 'node:net';
import { constants, zstdDecompressSync } from 'node:zlib';
import { fromBinary } from '@bufbuild/protobuf';
import { BinaryReader, WireType } from '@bufbuild/protobuf/wire';
import { type EndpointSlice, MANAGED_BY_LABEL, MESH_SLICES, toEndpointSlice } from '../api/endpoint-slice.ts';
import { BadValue } from './bad-value.ts';
import {
  type ClusterEndpointSlice,
  ClusterEndpointSliceSchema,
  type EndpointPort,
} from './gen/endpoint-slice_pb.js';
import { canonicalAddress, expect, type Origin } from './values.ts';

/**
 * The value of `cilium/state/endpointslices/v1/<cluster>/<namespace>/<slice>`: an EndpointSlice of a global, shared service
 * as protobuf in a zstd frame. Source: Cilium's CFP-41953, "ClusterMesh Service v2"; Cilium writes it from 1.20 on.
 */

/** Bytes: more than a slice can have, which an etcd took as one object before. */
const LARGEST = 4 * 1024 * 1024;
/** Binary logarithm of the bytes that are kept to unpack the next: as large as Cilium's writer makes it. */
const WINDOW = 23;
/** What Kubernetes lets a slice have. A few bytes of a value can say more, and each becomes an object here. */
const MOST_ENDPOINTS = 1000;
const MOST_PORTS = 20_000;

const label = /^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/;

/**
 * The slice as its own cluster has it, of a service that all clusters share. undefined: it is of no service, or a copy of
 * endpoints that another cluster tells of. @throws BadValue
 */
export function parseSlice(
  key: string,
  rest: string,
  bytes: Uint8Array,
  origin: Origin,
): EndpointSlice | undefined {
  const found = decode(key, unpack(key, bytes));
  const { cluster, clusterId, namespace, name, labels, addressType } = found;
  expect(key, 'cluster', cluster, origin.cluster);
  expect(key, 'namespace/name', `${namespace}/${name}`, rest);
  expect(key, 'clusterID', clusterId, origin.clusterId);
  if (addressType !== 'IPv4' && addressType !== 'IPv6')
    throw new BadValue(key, 'addressType', addressType, 'IPv4 or IPv6');
  const ports = found.ports.map(port => portOf(key, port));
  const metadata = { namespace, name, labels };
  const slice = toEndpointSlice({ metadata, addressType, endpoints: found.endpoints, ports });
  const service = slice.service.slice(namespace.length + 1);
  if (service === '' || labels[MANAGED_BY_LABEL] === MESH_SLICES) return undefined;
  if (!label.test(namespace)) throw new BadValue(key, 'namespace', namespace, 'the name of a namespace');
  if (!label.test(service)) throw new BadValue(key, 'labels', service, 'the name of a Service');
  return {
    ...slice,
    endpoints: slice.endpoints.map(endpoint => {
      const address = canonicalAddress(key, 'endpoints', endpoint.address);
      if (isIPv6(address) !== (addressType === 'IPv6'))
        throw new BadValue(key, 'endpoints', endpoint.address, `an ${addressType} address`);
      return { ...endpoint, address };
    }),
  };
}

const protocols = ['TCP', 'UDP', 'SCTP'] as const;

function portOf(key: string, { name, protocol, port }: EndpointPort) {
  const known = protocols.find(each => each === (protocol || 'TCP'));
  if (!known) throw new BadValue(key, 'ports.protocol', protocol, 'TCP, UDP or SCTP');
  if (port !== undefined && (port < 0 || port > 65_535))
    throw new BadValue(key, 'ports.port', port, 'a port from 1 to 65535');
  return { name, protocol: known, port };
}

function unpack(key: string, bytes: Uint8Array): Uint8Array {
  try {
    return zstdDecompressSync(bytes, {
      maxOutputLength: LARGEST,
      params: { [constants.ZSTD_d_windowLogMax]: WINDOW },
    });
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new BadValue(key, '', why, `a zstd frame of at most ${LARGEST} bytes`);
  }
}

function decode(key: string, bytes: Uint8Array): ClusterEndpointSlice {
  const { endpoints, ports } = ClusterEndpointSliceSchema.field;
  limit(key, bytes, endpoints.number, MOST_ENDPOINTS);
  limit(key, bytes, ports.number, MOST_PORTS);
  return readMessage(key, () => fromBinary(ClusterEndpointSliceSchema, bytes, { readUnknownFields: false }));
}

/** Counts the elements of a repeated field before anything is made of them. @throws BadValue when there are more than `most` */
function limit(key: string, bytes: Uint8Array, field: number, most: number): void {
  const count = readMessage(key, () => {
    const reader = new BinaryReader(bytes);
    let count = 0;
    while (reader.pos < reader.len) {
      const [number, type] = reader.tag();
      if (number === field && type === WireType.LengthDelimited) count++;
      reader.skip(type, number);
    }
    return count;
  });
  if (count > most) throw new BadValue(key, `field ${field}`, count, `at most ${most} elements`);
}

function readMessage<T>(key: string, read: () => T): T {
  try {
    return read();
  } catch (error) {
    throw new BadValue(key, '', error instanceof Error ? error.message : String(error), 'an EndpointSlice');
  }
}
