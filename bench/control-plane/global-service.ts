import * as z from 'zod';
import { pathOf, resources, typeOf } from '../../src/kube/resource.ts';
import type { Bed, Side } from './bed.ts';

/** A global service without selector in both clusters; its endpoints are written by hand in us. */
export interface GlobalService {
  readonly name: string;
  /** ClusterIP in us and in eu; port 80. */
  readonly us: string;
  readonly eu: string;
}

const created = z.object({ spec: z.object({ clusterIP: z.string() }) });

/** Makes the service with one endpoint. */
export async function createGlobalService(bed: Bed, name: string, address: string): Promise<GlobalService> {
  const { namespace } = bed;
  const make = async ({ client }: Side): Promise<string> => {
    const object = {
      ...typeOf(resources.services),
      metadata: { name, annotations: { 'service.cilium.io/global': 'true' } },
      spec: { ports: [{ name: 'p', port: 80 }] },
    };
    return created.parse(await client.create(pathOf(resources.services, { namespace }), object)).spec
      .clusterIP;
  };
  const [us, eu] = await Promise.all([make(bed.us), make(bed.eu)]);
  await bed.us.client.create(pathOf(resources.endpointSlices, { namespace }), {
    ...typeOf(resources.endpointSlices),
    metadata: { name, labels: { 'kubernetes.io/service-name': name } },
    addressType: 'IPv4',
    endpoints: [{ addresses: [address], conditions: { ready: true } }],
    ports: [{ name: 'p', port: 8080, protocol: 'TCP' }],
  });
  return { name, us, eu };
}

/** Gives the service another endpoint instead of its one; resolves when the API server has answered. */
export async function moveEndpoint(bed: Bed, name: string, address: string): Promise<void> {
  const { client } = bed.us;
  await client.patch(pathOf(resources.endpointSlices, { namespace: bed.namespace, name }), 'merge', {
    endpoints: [{ addresses: [address], conditions: { ready: true } }],
  });
}
