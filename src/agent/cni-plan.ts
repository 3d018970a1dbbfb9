/** What the plugin is told to do (the lines of cni/plan.h), and what the runtime is told was done. Pure. */
import type { CniVersion } from './cni-request.ts';
import { type Endpoint, endpointKey } from './endpoint.ts';

/**
 * The pod's interface: an address of whole length, the gateway on the link with a permanent neighbour entry
 * (nothing asks by ARP), everything else by the gateway. The host side stays down until programs are on it.
 */
export function addPlan(endpoint: Endpoint): string {
  const { hostIfName: host, ifName: pod, gateway } = endpoint;
  return lines(
    `veth ${host} ${pod} ${endpoint.hostMac} ${endpoint.mac} ${endpoint.mtu} ${endpointKey(endpoint)}`,
    `host-sysctl net/ipv4/conf/${host}/rp_filter 0`,
    `host-sysctl net/ipv6/conf/${host}/disable_ipv6 1`,
    // No IPv6 address is made up for the device: nothing to detect duplicates of, no router to ask for.
    `pod-sysctl net/ipv6/conf/${pod}/addr_gen_mode 1`,
    `pod-sysctl net/ipv6/conf/${pod}/accept_ra 0`,
    'pod-up lo',
    `pod-up ${pod}`,
    `pod-address ${pod} ${endpoint.ipv4}/32`,
    `pod-neighbour ${pod} ${gateway} ${endpoint.hostMac}`,
    `pod-route ${pod} ${gateway}/32 - 0`,
    `pod-route ${pod} 0.0.0.0/0 ${gateway} 0`,
  );
}

/** The end of an ADD: the host side goes up, now that the program is on it. */
export const upPlan = (endpoint: Endpoint): string =>
  lines(`host-up ${endpoint.hostIfName} ${endpointKey(endpoint)}`);

export function checkPlan(endpoint: Endpoint): string {
  const { ifName: pod, gateway } = endpoint;
  return lines(
    `check-link ${pod} ${endpoint.mac} ${endpoint.mtu}`,
    `check-address ${pod} ${endpoint.ipv4}/32`,
    `check-route ${pod} ${gateway}/32 -`,
    `check-route ${pod} 0.0.0.0/0 ${gateway}`,
  );
}

/** Deletes the host devices of attachments, each only if it is that attachment's. */
export const deletePlan = (
  attachments: readonly { readonly hostIfName: string; readonly key: string }[],
): string => lines(...attachments.map(({ hostIfName, key }) => `delete ${hostIfName} ${key}`));

/** The ADD result in the form of the asked version of the specification. */
export function addResult(endpoint: Endpoint, version: CniVersion): string {
  const tellsMtu = version === '1.1.0' ? { mtu: endpoint.mtu } : {};
  const tellsFamily = version.startsWith('0.') ? { version: '4' } : {};
  const result = {
    cniVersion: version,
    interfaces: [
      { name: endpoint.hostIfName, mac: endpoint.hostMac, ...tellsMtu },
      { name: endpoint.ifName, mac: endpoint.mac, ...tellsMtu, sandbox: endpoint.netns },
    ],
    ips: [{ ...tellsFamily, address: `${endpoint.ipv4}/32`, gateway: endpoint.gateway, interface: 1 }],
    routes: [{ dst: `${endpoint.gateway}/32` }, { dst: '0.0.0.0/0', gw: endpoint.gateway }],
    dns: {},
  };
  return `${JSON.stringify(result)}\n`;
}

const lines = (...all: readonly string[]): string => all.map(each => `${each}\n`).join('');
