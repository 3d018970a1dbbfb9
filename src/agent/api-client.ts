import { request } from 'node:http';
import { AGENT_SOCKET } from './api-server.ts';

/** Asks the agent of this node; throws with what it answered, or why it cannot be reached. */
export function askAgent(
  method: 'GET' | 'POST',
  path: string,
  socketPath: string = process.env.ISTHMUS_AGENT_SOCKET ?? AGENT_SOCKET,
): Promise<string> {
  return new Promise((resolve, reject) => {
    const call = request({ socketPath, method, path, agent: false, timeout: 60_000 }, response => {
      const chunks: Buffer[] = [];
      response.on('data', (chunk: Buffer) => chunks.push(chunk));
      response.on('end', () => {
        const text = Buffer.concat(chunks).toString();
        if (response.statusCode === 200) resolve(text);
        else reject(new Error(`the agent answered ${response.statusCode}: ${text.trim()}`));
      });
      response.on('error', reject);
    });
    call.on('timeout', () => call.destroy(new Error('no answer after 60 s')));
    call.on('error', (error: NodeJS.ErrnoException) => {
      const absent = error.code === 'ENOENT' || error.code === 'ECONNREFUSED';
      reject(absent ? new Error(`no agent listens on ${socketPath}`, { cause: error }) : error);
    });
    call.end();
  });
}
