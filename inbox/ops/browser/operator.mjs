// An operator's session with the operations page; browser_test.go starts it.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { chromium } from 'playwright-core';

const { CHROMIUM, SCREENSHOTS, SITE } = process.env;
const site = JSON.parse(SITE);
const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

const desk = { width: 1280, height: 900 };
const phone = { width: 390, height: 844 };

// As root, as in a container, Chromium does not start in its sandbox.
const browser = await chromium.launch({
  executablePath: CHROMIUM,
  args: process.getuid() === 0 ? ['--no-sandbox'] : [],
});

// open returns a page without JavaScript that fails where the content security
// policy forbids something that it needs.
async function open(options) {
  const context = await browser.newContext({
    javaScriptEnabled: false,
    httpCredentials: { username: site.user, password: site.password },
    locale: 'en',
    colorScheme: 'light',
    viewport: desk,
    ...options,
  });
  const page = await context.newPage();
  page.setDefaultTimeout(30_000);
  page.on('console', (message) => assert.doesNotMatch(message.text(), /Content.Security.Policy/i));
  await page.goto(site.page);
  return page;
}

async function screenshot(page, name) {
  if (SCREENSHOTS) await page.screenshot({ path: join(SCREENSHOTS, name) });
}

// press follows a link or presses a button, and waits for the page that it leads to.
async function press(page, role, name, within = page) {
  const target = within.getByRole(role, { name, exact: true }).first();
  await Promise.all([page.waitForNavigation(), target.click()]);
}

async function text(page) {
  return page.locator('main').innerText();
}

// until reloads a page until it shows a text: workers take a moment.
async function until(page, address, pattern) {
  const end = Date.now() + 30_000;
  for (;;) {
    await page.goto(address);
    const shown = await text(page);
    if (pattern.test(shown)) return;
    assert.ok(Date.now() < end, `${pattern} does not come: ${shown}`);
    await page.waitForTimeout(200);
  }
}

async function fits(page) {
  const [content, screen] = await page.evaluate(() => [document.documentElement.scrollWidth, document.documentElement.clientWidth]);
  assert.ok(content <= screen, `${page.url()} is ${content} wide on a screen of ${screen}`);
}

// group returns the address of what failed with an error.
async function group(page, error) {
  await page.goto(site.page);
  return page.getByRole('link', { name: error }).first().evaluate((a) => a.href);
}

// all returns an address for each kind of page, with something on it.
async function all(page) {
  const failed = await group(page, /the ledger is read-only/);
  const quarantined = await group(page, /not a UUID/);
  await page.goto(quarantined);
  const event = await page.locator('.list a').first().evaluate((a) => a.href);
  return [site.page, `${site.page}cases?show=dead`, `${site.page}cases?q=nobody`, `${site.page}case/${site.today}`, `${site.page}case/${site.today}/answer`,
    `${site.page}case/${site.superseded}`, failed, `${failed}/replay`, event, `${site.page}case/nobody`, `${site.page}?did=late`];
}

const steps = {
  async 'a wrong password opens nothing'() {
    const context = await browser.newContext({ httpCredentials: { username: site.user, password: 'wrong' } });
    assert.equal((await context.request.get(site.page)).status(), 401);
    await context.close();
  },

  async 'everything fits a phone, and axe finds nothing, light and dark'() {
    await Promise.all(['dark', 'light'].map(async (colorScheme) => {
      // axe is JavaScript, which the page's policy forbids.
      const page = await open({ viewport: phone, colorScheme, javaScriptEnabled: true, bypassCSP: true });
      if (colorScheme === 'light') await screenshot(page, 'ops-phone.png');
      for (const address of await all(page)) {
        await page.goto(address);
        for (const summary of await page.locator('summary').all()) await summary.click();
        await fits(page);
        if (colorScheme === 'light') await page.setViewportSize(desk);
        await page.evaluate(axe);
        const found = await page.evaluate(async () => (await globalThis.axe.run()).violations.map((v) => `${v.id}: ${v.nodes[0].html}: ${v.nodes[0].failureSummary}`));
        assert.deepEqual(found, [], `${address}, ${colorScheme}`);
        if (colorScheme === 'light') await page.setViewportSize(phone);
      }
      await page.context().close();
    }));
  },

  async 'errors never push rows apart'() {
    const page = await open();
    for (const [viewport, most] of [[desk, 44], [phone, 170]]) {
      await page.setViewportSize(viewport);
      const rows = await page.locator('.list tbody tr').evaluateAll((all) => all.map((row) => [row.getBoundingClientRect().height, row.innerText]));
      assert.ok(rows.length > 5);
      for (const [height, shown] of rows) assert.ok(height <= most, `${height} pixels at a width of ${viewport.width}: ${shown}`);
    }
  },

  async 'in Portuguese'() {
    const page = await open({ locale: 'pt-BR' });
    await screenshot(page, 'ops-cases.pt-BR.png');
    assert.match(await text(page), /bloqueados em \d+ casos abertos/);
  },

  async 'a case that is due today is found, read, and marked as answered'() {
    const page = await open();
    await screenshot(page, 'ops-cases.png');
    assert.match(await text(page), /2\s+due today/);
    await page.locator('.tiles').getByRole('link', { name: /due today/ }).click();
    assert.equal(await page.locator('.list tbody tr').count(), 2);
    assert.match(await page.locator('.list tbody tr').first().innerText(), /in 2 h .*R\$ 1\.234,56.*order-2207.*ACKNOWLEDGED.*nobody/s);
    await press(page, 'link', 'order-2207');
    assert.equal(page.url(), `${site.page}case/${site.today}`);
    assert.match(await text(page), /Nobody has marked it as answered/);
    await page.locator('summary').first().click();
    assert.match(await page.locator('pre').first().innerText(), /"medStatus": "ACKNOWLEDGED"/);
    const receipt = await page.getByRole('link', { name: 'Receipt' }).evaluate((a) => a.href);
    const pdf = await page.context().request.get(receipt);
    assert.match(pdf.headers()['content-disposition'], /^attachment/);
    assert.equal((await pdf.body()).subarray(0, 5).toString(), '%PDF-');
    await press(page, 'link', 'Mark as answered');
    await page.getByLabel('Note').fill('Sent through the gateway\'s panel.');
    await press(page, 'button', 'Mark as answered');
    assert.match(await page.getByRole('status').innerText(), /The case is marked as answered/);
    assert.match(await text(page), /by ana/);
    await screenshot(page, 'ops-case.png');
    await page.reload(); // does nothing again
    await page.goto(site.page);
    assert.match(await text(page), /1\s+due today/);
  },

  async 'a group of dead letters is found, replayed, and done'() {
    const page = await open();
    const row = page.locator('.failures tr', { hasText: 'the ledger is read-only' });
    assert.match(await row.innerText(), /^5\s/);
    await press(page, 'link', 'Replay all', row);
    assert.match(await text(page), /Replay all\?.*5.*the ledger is read-only/s);
    await press(page, 'button', 'Replay all');
    // One of the five went on since: that is for a person.
    assert.match(await page.getByRole('status').innerText(), /^4 notifications are processed again\. 1 was left alone/);
    await until(page, `${site.page}case/${site.dead}`, /CANCELLED\s+done/);
    assert.doesNotMatch(await text(page), /the ledger is read-only/);
    await until(page, site.page, /2\s+failed for good/);
  },

  async 'what is superseded is replayed when asked twice'() {
    const page = await open();
    await page.goto(`${site.page}case/${site.superseded}`);
    await press(page, 'link', 'Replay');
    await press(page, 'button', 'Replay');
    assert.match(await page.getByRole('alert').innerText(), /Replaying this one could undo it/);
    await press(page, 'button', 'Replay anyway');
    await until(page, `${site.page}case/${site.superseded}`, /ACKNOWLEDGED\s+done/);
  },

  async 'a quarantined body is shown as it came'() {
    const page = await open();
    await page.getByRole('link', { name: /not a UUID/ }).click();
    await page.locator('.list a').first().click();
    assert.match(await page.locator('pre').innerText(), /"value": "18,00"/);
    await press(page, 'link', 'Replay');
    await press(page, 'button', 'Replay');
    assert.match(await page.getByRole('alert').innerText(), /still not valid/);
  },

  async 'a link from another site leads to a page that leads on'() {
    const page = await open();
    await page.route('http://elsewhere.example/', (route) => route.fulfill({ contentType: 'text/html', body: `<a href="${site.page}case/${site.today}">look</a>` }));
    await page.goto('http://elsewhere.example/');
    await press(page, 'link', 'look');
    assert.match(await page.getByRole('alert').innerText(), /Another site led here/);
    assert.doesNotMatch(await text(page), /1\.234,56/);
    await press(page, 'link', 'Open the page');
    assert.match(await text(page), /1\.234,56/);
  },

  async 'the keyboard reaches what the mouse does, and shows where it is'() {
    const page = await open();
    await page.getByLabel('Search').focus();
    await page.keyboard.type(site.superseded.toUpperCase());
    await Promise.all([page.waitForURL(/[?&]q=/), page.keyboard.press('Enter')]);
    const link = page.getByRole('link', { name: 'order-2184' });
    for (let i = 0; i < 20 && !(await link.evaluate((a) => a === document.activeElement)); i++) await page.keyboard.press('Tab');
    assert.equal(await page.evaluate(() => getComputedStyle(document.activeElement).outlineStyle), 'solid');
    await Promise.all([page.waitForURL(/case\//), page.keyboard.press('Enter')]);
  },

  async 'a hundred thousand cases are quick'() {
    const page = await open();
    const timed = async (what, go) => {
      const start = Date.now();
      await go();
      const took = Date.now() - start;
      console.log(`   ${what}: ${took} ms`);
      assert.ok(took < 5_000, `${what} took ${took} ms`);
    };
    await timed('the first screen', () => page.goto(site.crowd));
    assert.match(await text(page), /blocked in 50,001 open cases.*1,000\+\s+due today/s);
    await timed('due today', () => page.locator('.tiles').getByRole('link', { name: /due today/ }).click());
    assert.equal(await page.locator('.list tbody tr').count(), 50);
    await timed('the next page', () => press(page, 'link', 'Next'));
    await page.getByLabel('Search').fill('Crowd-7777');
    await timed('a search', () => press(page, 'button', 'Search'));
    assert.equal(await page.locator('.list tbody tr').count(), 11); // crowd-7777 and crowd-77770 to 77779
    await timed('a case', () => press(page, 'link', 'crowd-77777'));
    assert.match(await text(page), /c0000000-0000-4000-8000-000000077777/);
  },

};

try {
  for (const [name, step] of Object.entries(steps)) {
    const start = Date.now();
    await step();
    console.log(`ok: ${name} (${Date.now() - start} ms)`);
  }
} finally {
  await browser.close();
}
