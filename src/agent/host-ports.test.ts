import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { frontendAddress } from '../loadbalancer/frontend.ts';
import { settled } from '../table/settled.fixture.ts';
import { Table } from '../table/table.ts';
import { testEndpoint } from './endpoint.fixture.ts';
import { type Endpoint, endpointTable, type PortMapping } from './endpoint.ts';
import type { HostAddress } from './endpoint-map.ts';
import { deriveHostPorts } from './host-ports.ts';

const endpoint = (name: string, ipv4: string, ...portMappings: PortMapping[]): Endpoint =>
  testEndpoint({ containerId: name, ipv4, namespace: 'shop', podName: name, portMappings });

describe('host ports', () => {
  it('are frontends at every address of the node and its loopback, or at the one that is named', async () => {
    const endpoints = endpointTable();
    const addresses = new Table<HostAddress>({ name: 'a', keyOf: row => row.address });
    const rows = deriveHostPorts(endpoints, addresses);
    addresses.upsert({ address: '172.18.1.2' });
    endpoints.upsert(endpoint('plain', '10.1.0.2'));
    endpoints.upsert(
      endpoint(
        'web',
        '10.1.0.3',
        { hostPort: 8080, containerPort: 80, protocol: 'tcp' },
        { hostPort: 53, containerPort: 53, protocol: 'udp', hostIP: '172.18.1.2' },
        { hostPort: 99, containerPort: 99, protocol: 'tcp', hostIP: '127.0.0.1' },
      ),
    );
    endpoints.markSynced();
    addresses.markSynced();
    await rows.whenSynced();
    const shown = (): string[] =>
      Array.from(rows.values(), row => `${frontendAddress(row)} ${[...row.backends][0]!.key}`).sort();
    assert.deepEqual(shown(), [
      '127.0.0.1/8080/TCP/external 10.1.0.3/80/TCP',
      '127.0.0.1/99/TCP/external 10.1.0.3/99/TCP',
      '172.18.1.2/53/UDP/external 10.1.0.3/53/UDP',
      '172.18.1.2/8080/TCP/external 10.1.0.3/80/TCP',
    ]);
    addresses.upsert({ address: '10.1.0.1' });
    await settled();
    assert.equal(shown()[0], '10.1.0.1/8080/TCP/external 10.1.0.3/80/TCP');
    addresses.upsert({ address: 'fd00:18::2' });
    endpoints.upsert({ ...endpoints.get('web/eth0')!, ipv6: 'fd00:10::3', gateway6: 'fd00:10::1' });
    await settled();
    assert.deepEqual(
      shown().filter(each => each.includes('fd00')),
      ['::1/8080/TCP/external fd00:10::3/80/TCP', 'fd00:18::2/8080/TCP/external fd00:10::3/80/TCP'],
    );
    endpoints.upsert({ ...endpoints.get('web/eth0')!, state: 'deleting' });
    await settled();
    assert.deepEqual(shown(), []);
  });
});
