// Walks Swagger UI as an administrator would: Authorize, create an account, push a mail, see it in the queue.
// Needs POSTROOM_URL, POSTROOM_ADMIN_USER and POSTROOM_ADMIN_PASSWORD (tools/with-sandbox.sh sets them) and Chromium.
import { randomUUID } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { chromium } from 'playwright-core';

// What depends on the API: the operations walked through, and how their answers are read.
const OPERATIONS = {
  createAccount: 'create_account',
  activateAccount: 'activate_account',
  pushMessage: 'push_message',
  listQueues: 'list_queues',
  listWorkItems: 'list_work_items',
};
const STATUS_OF_CREATED = [200, 201, 202];
const newAccount = (name, queue) => ({
  channel: 'email', address: `${name}@centre.test`, inbound: { protocol: 'push' }, fallback_queue_id: queue.id,
});
const newMail = (name, subject) => [
  'From: Chris Customer <chris@customer.test>',
  `To: ${name}@centre.test`,
  `Subject: ${subject}`,
  `Message-ID: <${randomUUID()}@customer.test>`,
  'Date: Mon, 05 Jan 2026 10:00:00 +0000',
  '',
  'My order has not come.',
  '',
].join('\n');

const DEADLINE_MS = 90_000;
const EXECUTABLES = [process.env.CHROMIUM, '/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'];
const FLAGS = [
  '--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--disable-dev-shm-usage', '--no-first-run',
  '--disable-background-networking', '--disable-component-update', '--disable-sync', '--no-proxy-server',
];
const screenshot = process.argv[2]
  ?? join(dirname(fileURLToPath(import.meta.url)), '..', 'docs', 'swagger-ui.png');

function required(name) {
  const value = process.env[name];
  if (!value) throw new Error(`${name} is not set: run this through tools/with-sandbox.sh`);
  return value;
}

function check(condition, message) {
  if (!condition) throw new Error(message);
}

async function authorize(page, user, password) {
  await page.locator('.auth-wrapper button.authorize').first().click();
  const form = page.locator('.auth-container', { has: page.locator('input[name=username], #oauth_username') }).first();
  await form.locator('#oauth_username, input[name=username]').first().fill(user);
  await form.locator('#oauth_password, input[name=password]').first().fill(password);
  await form.locator('button.authorize').click();
  // The form is replaced once the login has worked: in both flows, which share one scheme.
  await page.locator('.modal-ux .auth-container button', { hasText: 'Logout' }).first().waitFor();
  await page.locator('.modal-ux .btn-done').first().click();
}

// Runs one operation through "Try it out" and gives what the page shows: { status, body }.
async function execute(page, operationId, { parameters = {}, body, file } = {}) {
  const block = page.locator(`.opblock[id$="-${operationId}"]`);
  check(await block.count() === 1, `the page has ${await block.count()} operations called ${operationId}`);
  if (!(await block.evaluate((node) => node.classList.contains('is-open')))) {
    await block.locator('.opblock-summary-control').click();
  }
  await block.locator('button.try-out__btn', { hasText: 'Try it out' }).click();
  for (const [name, value] of Object.entries(parameters)) {
    await block.locator(`tr[data-param-name="${name}"] input`).fill(value);
  }
  if (body !== undefined) await block.locator('.body-param__text').fill(body);
  if (file !== undefined) {
    const buffer = Buffer.from(file);
    await block.locator('.opblock-section-request-body input[type=file]')
      .setInputFiles({ name: 'mail.eml', mimeType: 'message/rfc822', buffer });
  }
  await block.locator('button.execute').click();
  const live = block.locator('.live-responses-table');
  await live.locator('.response-col_status').last().waitFor();
  const status = Number.parseInt(await live.locator('tbody .response-col_status').first().innerText(), 10);
  const shown = live.locator('.response-col_description .highlight-code code').first();
  const text = await shown.count() ? await shown.innerText() : '';
  console.log(`swagger-ui: ${operationId} → ${status}`);
  return { status, text, block };
}

function parsed({ status, text }, operationId, statuses) {
  check(statuses.includes(status), `${operationId} answered ${status}: ${text}`);
  return JSON.parse(text);
}

async function walk(page) {
  const name = `swagger-${randomUUID().slice(0, 8)}`;
  const subject = `Order ${name}`;
  const run = async (key, options, statuses = [200]) =>
    parsed(await execute(page, OPERATIONS[key], options), OPERATIONS[key], statuses);

  const queue = (await run('listQueues')).items[0];
  check(queue, 'there is no queue');
  const account = await run('createAccount', { body: JSON.stringify(newAccount(name, queue), null, 2) }, STATUS_OF_CREATED);
  if (account.state === 'draft') await run('activateAccount', { parameters: { id: account.id } });
  await run('pushMessage', { parameters: { id: account.id }, file: newMail(name, subject) }, STATUS_OF_CREATED);
  const items = await execute(page, OPERATIONS.listWorkItems, { parameters: { queue_id: queue.id, account_id: account.id } });
  check(items.status === 200 && items.text.includes(subject), `the mail "${subject}" is not in the queue: ${items.text}`);
  return items.block;
}

async function main() {
  const [url, user, password] = ['URL', 'ADMIN_USER', 'ADMIN_PASSWORD'].map((part) => required(`POSTROOM_${part}`));
  const executablePath = EXECUTABLES.find((path) => path && existsSync(path));
  check(executablePath, 'Chromium is not installed (tools/setup.sh tools)');
  const profile = mkdtempSync(join(tmpdir(), 'postroom-chromium-'));
  const complaints = [];
  const context = await chromium.launchPersistentContext(profile, {
    executablePath, args: FLAGS, viewport: { width: 1280, height: 1000 },
  });
  try {
    const page = context.pages()[0] ?? await context.newPage();
    page.setDefaultTimeout(DEADLINE_MS);
    page.on('pageerror', (error) => complaints.push(`script error: ${error.message}`));
    page.on('requestfailed', (request) => complaints.push(`no answer: ${request.url()} (${request.failure()?.errorText})`));
    page.on('request', (request) => {
      const target = new URL(request.url());
      if (target.protocol.startsWith('http') && target.origin !== new URL(url).origin) complaints.push(`request to elsewhere: ${request.url()}`);
    });
    await page.goto(`${url}/swagger-ui/`);
    await page.locator('.opblock').first().waitFor();
    await authorize(page, user, password);
    const block = await walk(page);
    await block.scrollIntoViewIfNeeded();
    mkdirSync(dirname(screenshot), { recursive: true });
    await page.screenshot({ path: screenshot });
    check(complaints.length === 0, complaints.join('\n'));
    console.log(`swagger-ui: passed; ${screenshot}`);
  } finally {
    await context.close();
    rmSync(profile, { recursive: true, force: true });
  }
}

main().catch((error) => {
  console.error(`swagger-ui: ${error.message}`);
  process.exitCode = 1;
});
