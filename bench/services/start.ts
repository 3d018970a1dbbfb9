import { mapFolder, timeServices } from '../control-plane/map-watch.ts';
import { type Result, seconds } from '../control-plane/report.ts';
import { cpuOf, memoryOf, startOf } from '../lab-daemons.ts';
import { restartAgent, serviceMaps, whenReady } from './agent.ts';
import type { Bed } from './bed.ts';
import { type Crowd, crowdAddresses } from './crowd.ts';
import { listEverything } from './list.ts';

/** The agent begins with nothing but what the API server says. */
export async function starts(bed: Bed, crowd: Crowd, times: number): Promise<Result[]> {
  const addresses = crowdAddresses(bed.cluster.plan.serviceSubnet, crowd);
  const each = crowd.endpoints / crowd.services;
  const seen: { last: number; ready: number; cpu: number; memory: number; list: number }[] = [];
  for (let n = 0; n < times; n++) {
    const list = await listEverything(bed.client);
    const pid = await restartAgent(bed.lab, bed.cluster, serviceMaps);
    const { done } = await timeServices(mapFolder(bed.lab, bed.node), addresses, each);
    const [last, ready] = await Promise.all([done, whenReady(pid)]);
    seen.push({
      last: last - startOf(pid) * 1000,
      ready: ready * 1000,
      cpu: cpuOf(pid) * 1000,
      memory: memoryOf(pid),
      list: list * 1000,
    });
  }
  const what = `${crowd.services} services, ${crowd.endpoints} endpoints`;
  const row = (name: string, field: 'last' | 'ready' | 'cpu' | 'list', goal: string): Result => ({
    what: `${what}: ${name}`,
    isthmus: seen.map(one => seconds(one[field])).join(', '),
    goal,
    cilium: '',
  });
  return [
    row('agent, exec → last map row', 'last', '< 5 s'),
    row('agent, exec → ready', 'ready', ''),
    row('agent, processor time until then', 'cpu', ''),
    row('the API server lists them, read and thrown away', 'list', ''),
    {
      what: `${what}: agent, resident memory then, MiB`,
      isthmus: seen.map(one => one.memory.toFixed(0)).join(', '),
      goal: '< 300',
      cilium: '',
    },
  ];
}
