/** What the plugin is told to do (the lines of cni/plan.h), and what the runtime is told was done. Pure. */
import type { CniVersion } from './cni-request.ts';
import { addressesOf, type Endpoint, type EndpointAddress, endpointKey } from './endpoint.ts';

/**
 * The pod's interface: of each family an address of whole length, the gateway on the link with a permanent
 * neighbour entry (nothing asks by ARP or neighbour discovery), everything else by the gateway. The host side stays
 * down until programs are on it.
 */
export function addPlan(endpoint: Endpoint): string {
  const { hostIfName: host, ifName: pod } = endpoint;
  return lines(
    `veth ${host} ${pod} ${endpoint.hostMac} ${endpoint.mac} ${endpoint.mtu} ${endpointKey(endpoint)}`,
    `host-sysctl net/ipv4/conf/${host}/rp_filter 0`,
    // No IPv6 address is made up for a device: nothing to detect duplicates of, no router to ask for.
    `host-sysctl net/ipv6/conf/${host}/addr_gen_mode 1`,
    `host-sysctl net/ipv6/conf/${host}/disable_ipv6 ${endpoint.ipv6 ? 0 : 1}`,
    ...(endpoint.ipv6
      ? [
          `host-sysctl net/ipv6/conf/${host}/forwarding 1`,
          // Some runtimes make namespaces without IPv6.
          'pod-sysctl net/ipv6/conf/lo/disable_ipv6 0',
          `pod-sysctl net/ipv6/conf/${pod}/disable_ipv6 0`,
          `pod-sysctl net/ipv6/conf/${pod}/accept_dad 0`,
        ]
      : []),
    `pod-sysctl net/ipv6/conf/${pod}/addr_gen_mode 1`,
    `pod-sysctl net/ipv6/conf/${pod}/accept_ra 0`,
    'pod-up lo',
    `pod-up ${pod}`,
    ...addressesOf(endpoint).flatMap(each => [
      `pod-address ${pod} ${each.address}/${each.bits}`,
      `pod-neighbour ${pod} ${each.gateway} ${endpoint.hostMac}`,
      `pod-route ${pod} ${each.gateway}/${each.bits} - 0`,
      `pod-route ${pod} ${everything(each)} ${each.gateway} 0`,
    ]),
  );
}

/** The end of an ADD: the host side goes up, now that the program is on it. */
export const upPlan = (endpoint: Endpoint): string =>
  lines(`host-up ${endpoint.hostIfName} ${endpointKey(endpoint)}`);

export function checkPlan(endpoint: Endpoint): string {
  const { ifName: pod } = endpoint;
  return lines(
    `check-link ${pod} ${endpoint.mac} ${endpoint.mtu}`,
    ...addressesOf(endpoint).flatMap(each => [
      `check-address ${pod} ${each.address}/${each.bits}`,
      `check-route ${pod} ${each.gateway}/${each.bits} -`,
      `check-route ${pod} ${everything(each)} ${each.gateway}`,
    ]),
  );
}

/** Deletes the host devices of attachments, each only if it is that attachment's. */
export const deletePlan = (
  attachments: readonly { readonly hostIfName: string; readonly key: string }[],
): string => lines(...attachments.map(({ hostIfName, key }) => `delete ${hostIfName} ${key}`));

/** The ADD result in the form of the asked version of the specification. */
export function addResult(endpoint: Endpoint, version: CniVersion): string {
  const tellsMtu = version === '1.1.0' ? { mtu: endpoint.mtu } : {};
  const result = {
    cniVersion: version,
    interfaces: [
      { name: endpoint.hostIfName, mac: endpoint.hostMac, ...tellsMtu },
      { name: endpoint.ifName, mac: endpoint.mac, ...tellsMtu, sandbox: endpoint.netns },
    ],
    ips: addressesOf(endpoint).map(({ address, gateway, bits }) => ({
      ...(version.startsWith('0.') ? { version: bits === 32 ? '4' : '6' } : {}),
      address: `${address}/${bits}`,
      gateway,
      interface: 1,
    })),
    routes: addressesOf(endpoint).flatMap(each => [
      { dst: `${each.gateway}/${each.bits}` },
      { dst: everything(each), gw: each.gateway },
    ]),
    dns: {},
  };
  return `${JSON.stringify(result)}\n`;
}

const everything = ({ bits }: EndpointAddress): string => (bits === 32 ? '0.0.0.0/0' : '::/0');
const lines = (...all: readonly string[]): string => all.map(each => `${each}\n`).join('');
