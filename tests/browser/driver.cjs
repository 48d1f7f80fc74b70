// Drives a browser for the tests: a line of JSON in, a line of JSON out.
//
//   {"open": NAME, "options": {…}}          a page in a profile of its own; "before" runs in each page first
//   {"tab": NAME, "of": NAME}               another page in the profile of one
//   {"page": NAME, "call": METHOD, "args"}  what Playwright's page does
//   {"save": NAME, "selector": …}           what a link gives to be saved
//   {"axe": NAME}                           what axe complains of

const { readFileSync } = require("node:fs");
const { createInterface } = require("node:readline");
const { chromium } = require("playwright-core");

const PATIENCE_MS = 30_000;
/** No line takes longer, also one that never ends in the page. */
const MAX_STEP_MS = 90_000;
const FLAGS = [
  "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync", "--no-proxy-server",
  // The lab has no resolver.
  "--host-resolver-rules=MAP portal.example 10.77.0.1",
];
const pages = new Map();
const axe = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");

const keep = (name, page) => {
  page.setDefaultTimeout(PATIENCE_MS);
  page.on("pageerror", (error) => console.error(`${name}: ${error}`));
  page.on("console", (message) => console.error(`${name} says: ${message.text()}`));
  pages.set(name, page);
};

const pageOf = (name) => {
  const page = pages.get(name);
  if (!page) throw new Error(`there is no page ${name}`);
  return page;
};

/** The page's own policy lets no script in: axe runs in a world beside it. */
const complaints = async (page) => {
  const session = await page.context().newCDPSession(page);
  const { frameTree } = await session.send("Page.getFrameTree");
  const world = await session.send("Page.createIsolatedWorld", { frameId: frameTree.frame.id });
  const run = async (expression) => {
    const contextId = world.executionContextId;
    const done = await session.send("Runtime.evaluate", { expression, contextId, awaitPromise: true, returnByValue: true });
    if (done.exceptionDetails) throw new Error(done.exceptionDetails.exception?.description);
    return done.result.value;
  };
  await run(`${axe};0`);
  return run("axe.run().then(({ violations }) => violations.map(({ id, nodes }) => `${id}: ${nodes.map((n) => n.html)}`))");
};

const serve = async (browser, asked) => {
  if (asked.open) {
    const context = await browser.newContext(asked.options ?? {});
    if (asked.before) await context.addInitScript({ content: asked.before });
    return keep(asked.open, await context.newPage());
  }
  if (asked.tab) return keep(asked.tab, await pageOf(asked.of).context().newPage());
  if (asked.save) {
    const page = pageOf(asked.save);
    const [saved] = await Promise.all([page.waitForEvent("download"), page.click(asked.selector)]);
    return { name: saved.suggestedFilename(), text: readFileSync(await saved.path(), "utf8") };
  }
  if (asked.axe) return complaints(pageOf(asked.axe));
  const result = await pageOf(asked.page)[asked.call](...(asked.args ?? []));
  if (asked.call === "goto" || asked.call === "reload") return { status: result?.status(), url: result?.url() };
  return typeof result === "object" && result?.constructor !== Object && !Array.isArray(result) ? null : result;
};

const inTime = (work) => {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`not done in ${MAX_STEP_MS} ms`)), MAX_STEP_MS);
  });
  return Promise.race([work, late]).finally(() => clearTimeout(timer));
};

const main = async () => {
  const browser = await chromium.launch({ executablePath: process.env.BITMESH_CHROMIUM, args: FLAGS });
  console.log(JSON.stringify({ value: browser.version() }));
  for await (const line of createInterface({ input: process.stdin })) {
    try {
      console.log(JSON.stringify({ value: (await inTime(serve(browser, JSON.parse(line)))) ?? null }));
    } catch (error) {
      console.log(JSON.stringify({ error: String(error) }));
    }
  }
  await browser.close();
};

main().catch((error) => {
  console.log(JSON.stringify({ error: String(error) }));
  process.exitCode = 1;
});
